"""The writers of the layouts of make_big.py."""

import collections
import gzip
import json
import pickle
import struct
import sys
import zlib

from big_parts import (
    DTYPES, OVERFLOW, Call, ZipWriter, named_class, named_function, numel_of, pickled, record, save, strides, tensor,
    torch_size, write_zip,
)

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
RANKS = 2
SHARDS = 4


# --- single files -----------------------------------------------------------------------------------------


def state_of(tensors, dtype):
    """Give a state dict whose tensors are numbered from 0 on."""
    return {
        made.name: tensor(number, made.shape, made.dtype or dtype, made.strides) for number, made in enumerate(tensors)
    }


def write_legacy(file, value, data):
    """Write a value as torch.save did before 1.6."""
    content, storages = pickled(value, legacy=True)
    for head in LEGACY_MAGIC, 1001, LEGACY_SYSTEM:
        pickle.dump(head, file, protocol=2)
    file.write(content)
    pickle.dump([str(key) for key in range(len(storages))], file, protocol=2)
    for storage in storages:
        file.write(struct.pack("<q", storage.numel))
        for piece in data.pieces(storage.number, storage.size):
            file.write(piece)


class EntryFile:
    """Takes what is written to it into a zip entry of a size that is not known before."""

    def __init__(self, archive, name):
        self.archive = archive
        self.started = archive.start(name, 0)
        self.crc = self.size = 0

    def write(self, data):
        """Write bytes and keep their CRC-32."""
        data = memoryview(data).cast("B")
        self.archive.write(data)
        self.crc = zlib.crc32(data, self.crc)
        self.size += len(data)

    def end(self):
        """End the entry, which must be smaller than 4 GiB."""
        if self.size >= OVERFLOW:
            sys.exit("numpy layouts are limited to 4 GiB")
        self.archive.end(self.started, self.crc, self.size)


def numpy_array(number, shape, dtype, data, protocol):
    """Give what pickles as a numpy array."""
    content = data.whole(number, numel_of(shape) * dtype.size)
    kind = Call(NUMPY_DTYPE, dtype.numpy, False, True, state=(3, "<", None, None, None, -1, -1, 0))
    if protocol == 2:
        state = (1, shape, kind, False, content)
        return Call(NUMPY_RECONSTRUCT, NUMPY_ARRAY, (0,), b"b", state=state)
    return Call(NUMPY_FROM_BUFFER, bytearray(content), kind, shape, "C")


NUMPY_DTYPE = named_class("numpy", "dtype")
NUMPY_ARRAY = named_class("numpy", "ndarray")
NUMPY_RECONSTRUCT = named_function("numpy._core.multiarray", "_reconstruct")
NUMPY_FROM_BUFFER = named_function("numpy._core.numeric", "_frombuffer")


def write_numpy(path, tensors, dtype, data, protocol):
    """Write numpy arrays as torch.save does: inside the pickle."""
    arrays = enumerate(tensors)
    state = {made.name: numpy_array(number, made.shape, dtype, data, protocol) for number, made in arrays}
    with open(path, "wb") as file:
        archive = ZipWriter(file, path.stem)
        entry = EntryFile(archive, "data.pkl")
        pickle.Pickler(entry, protocol).dump({"state_dict": state})
        entry.end()
        archive.add_head()
        archive.finish()


# --- folders ----------------------------------------------------------------------------------------------


def write_shards(folder, tensors, dtype, data):
    """Write shards of about the same size, and their index."""
    total = sum(numel_of(made.shape) for made in tensors) * dtype.size
    shards, done = [{} for _ in range(SHARDS)], 0
    for number, made in enumerate(tensors):
        shards[done * SHARDS // total][made.name] = tensor(number, made.shape, dtype)
        done += numel_of(made.shape) * dtype.size
    names = {}
    for number, shard in enumerate(shards, 1):
        file = f"pytorch_model-{number:05}-of-{SHARDS:05}.bin"
        save(folder / file, shard, data)
        names.update(dict.fromkeys(shard, file))
    index = {"metadata": {"total_size": total}, "weight_map": names}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


DCP = "torch.distributed.checkpoint.metadata"
DCP_METADATA = named_class(DCP, "Metadata")
DCP_TENSOR = named_class(DCP, "TensorStorageMetadata")
DCP_CHUNK = named_class(DCP, "ChunkStorageMetadata")
DCP_INDEX = named_class(DCP, "MetadataIndex")
DCP_META = named_class(DCP, "StorageMeta")
DCP_FORMAT = named_class(DCP, "_MEM_FORMAT_ENCODING")
DCP_PROPERTIES = named_class(DCP, "TensorProperties", __getstate__=lambda self: self.state)
DCP_INFO = named_class("torch.distributed.checkpoint.filesystem", "_StorageInfo")
LAYOUT = named_function("torch.serialization", "_get_layout")


def cut(shape, dim):
    """Cut a shape between two ranks; give the offsets and the sizes of each part."""
    dim = min(dim, len(shape) - 1)
    first = (shape[dim] + 1) // RANKS
    for start, size in (0, first), (first, shape[dim] - first):
        yield (0,) * dim + (start,) + (0,) * (len(shape) - dim - 1), shape[:dim] + (size,) + shape[dim + 1:]


def write_dcp(folder, tensors, dtype, data, dim):
    """Write a folder as torch.distributed.checkpoint.save does."""
    dtype_global = named_function("torch", dtype.name)
    names = [f"__{rank}_0.distcp" for rank in range(RANKS)]
    ends, described, stored = [0] * RANKS, {}, {}
    files = [open(folder / name, "wb") for name in names]
    for number, made in enumerate(tensors):
        chunks = []
        for rank, (offsets, sizes) in enumerate(cut(made.shape, dim)):
            start = ends[rank]
            length = write_zip(files[rank], "archive", tensor(number * RANKS + rank, sizes, dtype), data)
            ends[rank] += length
            chunks.append(record(DCP_CHUNK, offsets=torch_size(offsets), sizes=torch_size(sizes)))
            index = record(DCP_INDEX, fqn=made.name, index=rank, offset=torch_size(offsets))
            stored[index] = record(DCP_INFO, relative_path=names[rank], offset=start, length=length)
        layout, memory_format = Call(LAYOUT, "torch.strided"), Call(DCP_FORMAT, 0)
        properties = dtype_global, layout, False, memory_format, False, strides(sizes)
        properties = record(DCP_PROPERTIES, state=properties)
        described[made.name] = record(DCP_TENSOR, properties=properties, size=torch_size(made.shape), chunks=chunks)
    for file in files:
        file.close()
    metadata = record(
        DCP_METADATA, state_dict_metadata=described, planner_data={made.name: (made.name,) for made in tensors},
        storage_data=stored, storage_meta=record(DCP_META, checkpoint_id=str(folder), save_id="", load_id=None,
                                                 modules=[]), version="1.0.0",
    )
    with open(folder / ".metadata", "wb") as file:
        pickle.dump(metadata, file, protocol=4)


ZERO_STAGE = named_class("deepspeed.runtime.zero.config", "ZeroStageEnum")


def write_zero(folder, tensors, dtype, data, stage):
    """Write a folder as DeepSpeed does: the weights are cut out of one vector per rank."""
    folder = folder / "global_step1"
    folder.mkdir()
    (folder.parent / "latest").write_text(folder.name)
    numels = [numel_of(made.shape) for made in tensors]
    if stage == 2:
        each = -(-sum(numels) // (2 * RANKS)) * 2
        models = ["mp_rank_00_model_states.pt"]
        weights = state_of(tensors, DTYPES["f16"])
        part, count = "single_partition_of_fp32_groups", [RANKS]
    else:
        each = sum(-(-numel // RANKS) for numel in numels)
        models = [f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt" for rank in range(RANKS)]
        weights = {made.name: tensor(number, (0,), DTYPES["f16"]) for number, made in enumerate(tensors)}
        part, count = "fp32_flat_groups", RANKS
    shapes = collections.OrderedDict((made.name, torch_size(made.shape)) for made in tensors)
    for name in models:
        save(folder / name, {
            "module": collections.OrderedDict(weights), "buffer_names": [], "param_shapes": [shapes],
            "frozen_param_shapes": None, "frozen_param_fragments": None, "shared_params": {},
            "dp_world_size": RANKS, "mp_world_size": 1, "ds_version": "0.19.8",
        }, data)
    for rank in range(RANKS):
        optimizer = {"zero_stage": Call(ZERO_STAGE, stage), "partition_count": count,
                     part: [tensor(rank, (each,), dtype)]}
        save(folder / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt",
             {"optimizer_state_dict": optimizer, "ds_version": "0.19.8"}, data)


# --- all of them ------------------------------------------------------------------------------------------


def write_file(path, layout, tensors, dtype, data):
    """Write one file."""
    if layout.startswith("numpy"):
        write_numpy(path, tensors, dtype, data, int(layout[-1]))
        return
    value = {"state_dict": state_of(tensors, dtype)}
    if layout == "legacy":
        with open(path, "wb") as file:
            write_legacy(file, value, data)
    elif layout == "gzip":
        with open(path, "wb") as file, gzip.GzipFile("", "wb", 1, file, 0) as packed:
            write_legacy(packed, value, data)
    else:
        save(path, value, data, zlib.DEFLATED if layout == "deflated" else 0)


FOLDERS = {
    "shards": write_shards,
    "dcp0": lambda *args: write_dcp(*args, dim=0),
    "dcp1": lambda *args: write_dcp(*args, dim=1),
    "zero2": lambda *args: write_zero(*args, stage=2),
    "zero3": lambda *args: write_zero(*args, stage=3),
}
LAYOUTS = ["zip", "deflated", "legacy", "gzip", "numpy2", "numpy5", *FOLDERS]
