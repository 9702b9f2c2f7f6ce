#!/usr/bin/env python3
"""Write a large checkpoint in the zip layout of torch.save, for timing. Needs nothing but Python.

    python3 scripts/make_big.py big.ckpt --gib 4 --dtype f32 --tensor-mib 64 --small 200

The file holds {"state_dict": {name: tensor, …}}. Entries are stored, aligned to 64 bytes, with data
descriptors and correct CRC-32s, and in 64-bit form where sizes or offsets need it. Equal arguments give
equal bytes.
"""

import argparse
import collections
import io
import pathlib
import pickle
import random
import struct
import sys
import time
import types
import zlib

ALIGNMENT = 64
BLOCK = 1 << 20
OVERFLOW = 0xFFFFFFFF
FLAGS = 0x0808
STORAGE_CLASSES = {"f32": ("FloatStorage", 4), "f16": ("HalfStorage", 2)}
SMALL_SHAPE = (320,)

Tensor = collections.namedtuple("Tensor", "name key shape numel")
Entry = collections.namedtuple("Entry", "name crc size offset")


# --- the pickle -------------------------------------------------------------------------------------------


def named_class(module, name):
    """Make a stand-in that a pickle names as module.name."""
    made = type(name, (), {"__module__": module})
    setattr(sys.modules.setdefault(module, types.ModuleType(module)), name, made)
    return made


def named_function(module, name):
    """Make a stand-in function that a pickle names as module.name."""
    def made():
        pass
    made.__module__, made.__name__, made.__qualname__ = module, name, name
    setattr(sys.modules.setdefault(module, types.ModuleType(module)), name, made)
    return made


class Storage:
    """Stands for the storage of one tensor."""

    def __init__(self, key, numel):
        self.key = key
        self.numel = numel


class Rebuilt:
    """Pickles as the call by which torch rebuilds a contiguous tensor."""

    def __init__(self, rebuild, tensor):
        self.rebuild = rebuild
        self.tensor = tensor

    def __reduce__(self):
        storage = Storage(self.tensor.key, self.tensor.numel)
        shape = self.tensor.shape
        return self.rebuild, (storage, 0, shape, strides(shape), False, collections.OrderedDict())


class StoragePickler(pickle.Pickler):
    """Writes storages as torch's persistent ids."""

    def __init__(self, file, storage_class):
        super().__init__(file, protocol=2)
        self.storage_class = storage_class

    def persistent_id(self, value):
        if isinstance(value, Storage):
            return "storage", self.storage_class, value.key, "cpu", value.numel
        return None


def strides(shape):
    """Give the strides of a contiguous tensor."""
    made, step = [], 1
    for size in reversed(shape):
        made.insert(0, step)
        step *= size
    return tuple(made)


def pickle_checkpoint(tensors, storage_name):
    """Pickle the state dict."""
    rebuild = named_function("torch._utils", "_rebuild_tensor_v2")
    made = io.BytesIO()
    state = {tensor.name: Rebuilt(rebuild, tensor) for tensor in tensors}
    StoragePickler(made, named_class("torch", storage_name)).dump({"state_dict": state})
    return made.getvalue()


# --- the data ---------------------------------------------------------------------------------------------


def finite_block(item_size):
    """Make one pseudo-random block of finite numbers whose exponents are those of common weights."""
    data = bytearray(random.Random(0).randbytes(BLOCK))
    top = data[item_size - 1::item_size]
    exponents = bytes((byte & 0x80) | (0x30 + byte % 16) for byte in range(256))
    data[item_size - 1::item_size] = top.translate(exponents)
    return bytes(data)


def tensor_pieces(block, index, size):
    """Give the bytes of a tensor as pieces of the block, started at another place for each tensor."""
    start = index * 4096 * 37 % BLOCK
    turned = memoryview(block[start:] + block[:start])
    whole, rest = divmod(size, BLOCK)
    for _ in range(whole):
        yield turned
    if rest:
        yield turned[:rest]


def piece_crc(block, index, size, known):
    """Give the CRC-32 of a tensor's bytes, remembering those that come again."""
    key = (index * 37 % 256, size)
    if key not in known:
        crc = 0
        for piece in tensor_pieces(block, index, size):
            crc = zlib.crc32(piece, crc)
        known[key] = crc
    return known[key]


# --- the zip ----------------------------------------------------------------------------------------------


class ZipWriter:
    """Writes stored entries as torch's own zip writer does."""

    def __init__(self, file, prefix):
        self.file = file
        self.prefix = prefix
        self.entries = []
        self.offset = 0

    def put(self, data):
        """Write bytes and keep count."""
        self.file.write(data)
        self.offset += len(data)

    def add(self, name, size, crc, pieces):
        """Write one entry whose data starts at a multiple of the alignment."""
        name, start = f"{self.prefix}/{name}".encode(), self.offset
        wide = zip64_extra(size, start)
        extra = wide + self.padding(start + 30 + len(name) + len(wide))
        self.put(struct.pack("<4s5H3I2H", b"PK\x03\x04", 0, FLAGS, 0, 0, 0, 0, 0, 0, len(name), len(extra)))
        self.put(name + extra)
        for piece in pieces:
            self.put(piece)
        self.put(struct.pack("<4sIQQ" if wide else "<4s3I", b"PK\x07\x08", crc, size, size))
        self.entries.append(Entry(name, crc, size, start))

    def add_bytes(self, name, data):
        """Write one small entry."""
        self.add(name, len(data), zlib.crc32(data), [data])

    @staticmethod
    def padding(position):
        """Give an extra field that moves a position, itself included, to a multiple of the alignment."""
        fill = -(position + 4) % ALIGNMENT
        return struct.pack("<2sH", b"FB", fill) + b"Z" * fill

    def finish(self):
        """Write the central directory and the end records, of which torch always writes the 64-bit ones too."""
        start = self.offset
        for entry in self.entries:
            self.put(central_header(entry))
        size, count, end = self.offset - start, len(self.entries), self.offset
        self.put(struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start))
        self.put(struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1))
        few = min(count, 0xFFFF)
        self.put(struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, few, few, min(size, OVERFLOW), min(start, OVERFLOW), 0))


def zip64_extra(size, offset):
    """Give the extra field for what needs 64 bits; torch puts an overflowing offset into the local header as well."""
    wide = [value for value in (size, size, offset) if value >= OVERFLOW]
    return struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""


def central_header(entry):
    """Give an entry of the central directory."""
    extra = zip64_extra(entry.size, entry.offset)
    size, offset = min(entry.size, OVERFLOW), min(entry.offset, OVERFLOW)
    return struct.pack(
        "<4s6H3I5H2I", b"PK\x01\x02", 0, 0, FLAGS, 0, 0, 0, entry.crc, size, size,
        len(entry.name), len(extra), 0, 0, 0, 0, offset,
    ) + entry.name + extra


# --- putting it together ----------------------------------------------------------------------------------


def plan_tensors(total, tensor_bytes, item_size, small):
    """Give the tensors of the checkpoint: small ones first, then large ones up to the total size."""
    tensors = []
    for index in range(small):
        tensors.append(Tensor(f"blocks.{index}.norm.bias", str(index), SMALL_SHAPE, SMALL_SHAPE[0]))
    left = total - small * SMALL_SHAPE[0] * item_size
    while left >= 1024 * item_size:
        rows = min(tensor_bytes, left) // (1024 * item_size)
        index = len(tensors)
        tensors.append(Tensor(f"blocks.{index}.linear.weight", str(index), (rows, 1024), rows * 1024))
        left -= rows * 1024 * item_size
    return tensors


def write_checkpoint(path, tensors, storage_name, item_size):
    """Write the whole file."""
    block, known = finite_block(item_size), {}
    with open(path, "wb") as file:
        archive = ZipWriter(file, path.stem)
        archive.add_bytes("data.pkl", pickle_checkpoint(tensors, storage_name))
        archive.add_bytes(".format_version", b"1")
        archive.add_bytes(".storage_alignment", str(ALIGNMENT).encode())
        archive.add_bytes("byteorder", b"little")
        for index, tensor in enumerate(tensors):
            size = tensor.numel * item_size
            archive.add(f"data/{tensor.key}", size, piece_crc(block, index, size, known),
                        tensor_pieces(block, index, size))
        archive.add_bytes("version", b"3\n")
        archive.finish()
        return archive.offset


def parse_args():
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Write a large torch-style checkpoint for timing.")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--gib", type=float, default=4, help="size of all tensors (default 4)")
    parser.add_argument("--dtype", choices=STORAGE_CLASSES, default="f32")
    parser.add_argument("--tensor-mib", type=float, default=64, help="size of a large tensor (default 64)")
    parser.add_argument("--small", type=int, default=0, help="number of small tensors among them (default 0)")
    args = parser.parse_args()
    if args.tensor_mib * (1 << 20) < 4096:
        parser.error("--tensor-mib must be at least 0.004")
    return args


def main():
    """Write the file that the command line asks for."""
    args = parse_args()
    storage_name, item_size = STORAGE_CLASSES[args.dtype]
    started = time.monotonic()
    tensors = plan_tensors(int(args.gib * (1 << 30)), int(args.tensor_mib * (1 << 20)), item_size, args.small)
    size = write_checkpoint(args.out, tensors, storage_name, item_size)
    print(f"{args.out}: {size} bytes, {len(tensors)} tensors, {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    main()
