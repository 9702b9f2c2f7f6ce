"""The part of fixtures_distributed.py that changes good checkpoint folders: old forms, damage, other content."""

import io
import os
import pickle
import shutil

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed._shard.sharded_tensor.metadata import TensorProperties as OldProperties
from torch.distributed.checkpoint import FileSystemWriter
from torch.distributed.checkpoint._extension import ZStandard
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex

from fixture_book import Dangerous, cut, normal


# --- changing a folder ------------------------------------------------------------------------------------


def copy(book, folder, about, source="tiny"):
    """Copy a checkpoint folder."""
    shutil.copytree(book.folder / source, book.folder / folder)
    book.about[f"{folder}/"] = f"{source}: {about}"
    return book.folder / folder


def edit(path, change, protocol=None):
    """Load .metadata, change it and pickle it again."""
    metadata = pickle.loads((path / ".metadata").read_bytes())
    change(metadata)
    (path / ".metadata").write_bytes(pickle.dumps(metadata, protocol))


def damaged(book, folder, about, change, mentions, error="corrupt"):
    """Copy the small folder, change the copy's metadata and record that it is refused."""
    edit(copy(book, folder, about), change)
    book.fail(f"{about}: refused", folder, error, mentions)


def entry(metadata, name, *offset):
    """Give the storage entry of a chunk."""
    return metadata.storage_data[MetadataIndex(name, offset)]


def chunks(metadata):
    """Give the chunks of the small folder's sharded tensor: rows 0 and 1, rows 2 and 3."""
    return metadata.state_dict_metadata["weight"].chunks


# --- what is changed --------------------------------------------------------------------------------------


def without_storage(metadata):
    """Forget where the second chunk is."""
    del metadata.storage_data[MetadataIndex("weight", (2, 0))]


def without_chunk(metadata):
    """Forget the second chunk, though its data is known."""
    del chunks(metadata)[1]


def without_both(metadata):
    """Forget the second chunk altogether."""
    without_storage(metadata)
    without_chunk(metadata)


def without_any(metadata):
    """Forget every chunk."""
    chunks(metadata).clear()


def overlapping(metadata):
    """Add a chunk over the middle of the two."""
    chunks(metadata).append(ChunkStorageMetadata(torch.Size([1, 0]), torch.Size([2, 2])))
    metadata.storage_data[MetadataIndex("weight", (1, 0), 2)] = entry(metadata, "weight", 0, 0)


def same_twice(metadata):
    """List the first chunk twice and the second never: the sizes add up."""
    chunks(metadata)[1] = ChunkStorageMetadata(torch.Size([0, 0]), torch.Size([2, 2]))


def beyond(metadata):
    """Move the second chunk beyond the tensor's end."""
    chunks(metadata)[1] = ChunkStorageMetadata(torch.Size([3, 0]), torch.Size([2, 2]))
    metadata.storage_data[MetadataIndex("weight", (3, 0), 1)] = entry(metadata, "weight", 2, 0)


def negative(metadata):
    """Give the second chunk a negative offset."""
    chunks(metadata)[1] = ChunkStorageMetadata(torch.Size([-2, 0]), torch.Size([2, 2]))
    metadata.storage_data[MetadataIndex("weight", (-2, 0), 1)] = entry(metadata, "weight", 2, 0)


def exchanged(metadata):
    """Exchange the places of two tensors of different shape."""
    data, weight, bias = metadata.storage_data, MetadataIndex("weight", (2, 0)), MetadataIndex("bias", (0,))
    data[weight], data[bias] = data[bias], data[weight]


def other_dtype(metadata):
    """Promise another dtype than the chunks hold."""
    metadata.state_dict_metadata["weight"].properties.dtype = torch.float16


def huge(metadata):
    """Promise a tensor of 2^62 rows."""
    metadata.state_dict_metadata["weight"].size = torch.Size([2**62, 2])
    chunks(metadata)[0] = ChunkStorageMetadata(torch.Size([0, 0]), torch.Size([2**62, 2]))
    del chunks(metadata)[1]


def path_to(place):
    """Give a change that looks for the second chunk elsewhere."""
    def change(metadata):
        entry(metadata, "weight", 2, 0).relative_path = place
    return change


def moved(offset, length):
    """Give a change that moves the slice of the second chunk."""
    def change(metadata):
        found = entry(metadata, "weight", 2, 0)
        found.offset, found.length = found.offset + offset, found.length + length
    return change


def told_compressed(metadata):
    """Claim that a chunk is compressed by something."""
    entry(metadata, "weight", 2, 0).transform_descriptors = ["stream.other/2"]


def old_form(metadata):
    """Use the classes and fields that torch 2.0 wrote."""
    for held in metadata.state_dict_metadata.values():
        old = OldProperties(dtype=held.properties.dtype)
        held.properties = old
    del metadata.storage_meta, metadata.version


# --- cases ------------------------------------------------------------------------------------------------


def metadata_cases(book):
    """Folders whose metadata promises what the files do not hold."""
    made = [
        ("x_storage_gone", "the place of a chunk is not listed", without_storage, ["weight", "missing"]),
        ("x_chunk_gone", "a chunk is not listed", without_chunk, ["weight", "missing"]),
        ("x_chunk_lost", "a chunk and its place are not listed", without_both, ["weight", "missing"]),
        ("x_chunks_none", "a tensor without chunks", without_any, ["weight", "missing"]),
        ("x_overlap", "chunks overlap", overlapping, ["weight", "overlap"]),
        ("x_same_twice", "one chunk twice instead of two", same_twice, ["weight"]),
        ("x_beyond", "a chunk beyond the tensor's end", beyond, ["weight"]),
        ("x_negative", "a negative offset", negative, ["weight"]),
        ("x_shape", "chunks of another shape than listed", exchanged, ["shape", "[3]", "[2, 2]"]),
        ("x_dtype", "chunks of another dtype than listed", other_dtype, ["weight"]),
        ("x_huge", "a size beyond every memory", huge, ["weight"]),
        ("x_path_up", "a relative path that leads out of the folder", path_to("../tiny/__1_0.distcp"), ["../tiny"]),
        ("x_path_root", "an absolute path", path_to("/etc/hostname"), ["/etc/hostname"]),
        ("x_slice_late", "a slice that starts too late", moved(4, -4), ["__1_0.distcp", "weight", "torch file"]),
        ("x_slice_long", "a slice that ends beyond the file", moved(0, 10_000), ["weight", "truncated"]),
        ("x_slice_short", "a slice that ends too early", moved(0, -100), ["weight", "truncated"]),
        ("x_other_transform", "a chunk with a transform of unknown kind", told_compressed, ["stream.other/2"]),
    ]
    for folder, about, change, mentions in made:
        damaged(book, folder, about, change, mentions)


def file_cases(book):
    """Folders whose files are missing, cut or something else."""
    path = copy(book, "x_file_gone", "a file of chunks is missing")
    (path / "__1_0.distcp").unlink()
    book.fail("a file of chunks is missing: refused", path.name, "corrupt", ["__1_0.distcp"])
    path = copy(book, "x_file_cut", "a file of chunks is cut")
    (path / "__1_0.distcp").write_bytes(cut((path / "__1_0.distcp").read_bytes()))
    book.fail("a file of chunks is cut: refused", path.name, "corrupt", ["__1_0.distcp"])
    path = copy(book, "x_metadata_gone", "without .metadata")
    (path / ".metadata").unlink()
    book.fail("chunks without .metadata: refused", path.name, "not a checkpoint", [".metadata"])
    path = copy(book, "x_metadata_cut", ".metadata is cut")
    data = (path / ".metadata").read_bytes()
    (path / ".metadata").write_bytes(data[:len(data) // 2])
    book.fail(".metadata that is cut: refused", path.name, "corrupt", [".metadata", "truncated"])
    path = copy(book, "x_metadata_other", ".metadata is a pickled dict")
    (path / ".metadata").write_bytes(pickle.dumps({"weight": 1}))
    book.fail(".metadata that is something else: refused", path.name, "corrupt", [".metadata"])
    book.fail("a file of several chunks alone: refused", "tiny/__1_0.distcp", "not a checkpoint", ["folder"])


def dangerous_cases(book):
    """Folders whose pickles call os.system."""
    path = copy(book, "x_danger_metadata", ".metadata calls os.system (never unpickled here)")
    metadata = pickle.loads((path / ".metadata").read_bytes())
    metadata.planner_data["weight"] = Dangerous("echo ran")
    (path / ".metadata").write_bytes(pickle.dumps(metadata))
    book.fail("a dangerous .metadata: refused", path.name, "dangerous", ["posix.system"], status=3)
    path = copy(book, "x_danger_chunk", "the pickle of a chunk calls os.system (never unpickled here)")
    made = io.BytesIO()
    torch.save({"weight": normal(2, 2), "x": Dangerous("echo ran")}, made)
    data = (path / "__1_0.distcp").read_bytes()
    (path / "__1_0.distcp").write_bytes(data + made.getvalue())
    metadata = pickle.loads((path / ".metadata").read_bytes())
    found = entry(metadata, "weight", 2, 0)
    found.offset, found.length = len(data), len(made.getvalue())
    (path / ".metadata").write_bytes(pickle.dumps(metadata))
    book.fail("a dangerous chunk: refused", path.name, "dangerous", ["posix.system"], status=3)


def compressed_case(book):
    """A folder that torch's own extension compresses."""
    dcp.save({"weight": normal(4, 2)}, no_dist=True,
             storage_writer=FileSystemWriter("x_zstd", _extensions=[ZStandard()]))
    book.about["x_zstd/"] = "saved with the extension that compresses with Zstandard"
    book.fail("compressed chunks: refused", "x_zstd", "unsupported", ["zstd"])


def old_cases(book):
    """The form of .metadata that older versions of torch wrote."""
    for folder, protocol in (("old_form", 4), ("protocol_2", 2), ("protocol_5", 5)):
        about = "the classes and fields of torch 2.0" if folder == "old_form" else f"pickle protocol {protocol}"
        path = copy(book, folder, f".metadata with {about}")
        edit(path, old_form if folder == "old_form" else lambda _: None, protocol)
        dcp_to_torch_save(folder, "whole.pt")
        book.expect(f".metadata with {about}", folder, torch.load("whole.pt"), "tiny.safetensors")
        os.unlink("whole.pt")


def damage_cases(book):
    """Write every changed folder."""
    for make in (old_cases, metadata_cases, file_cases, dangerous_cases, compressed_case):
        make(book)
