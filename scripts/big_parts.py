"""What the layouts of make_big.py are made of: stand-ins for what pickles name, bytes, and torch's zip."""

import collections
import io
import pickle
import random
import struct
import sys
import types
import zlib

ALIGNMENT = 64
BLOCK = 1 << 20
OVERFLOW = 0xFFFFFFFF
FLAGS = 0x0808

Dtype = collections.namedtuple("Dtype", "storage name numpy size")
Entry = collections.namedtuple("Entry", "name method crc packed size offset")

DTYPES = {
    "f32": Dtype("FloatStorage", "float32", "f4", 4),
    "f16": Dtype("HalfStorage", "float16", "f2", 2),
    "i64": Dtype("LongStorage", "int64", "i8", 8),
    "i32": Dtype("IntStorage", "int32", "i4", 4),
}


# --- stand-ins for what pickles name ----------------------------------------------------------------------


def module_of(name):
    """Give the module of that name, made up together with the packages around it where it does not exist."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        path = ".".join(parts[:end])
        sys.modules.setdefault(path, types.ModuleType(path))
    return sys.modules[name]


def named_class(module, name, *bases, **members):
    """Make a stand-in that a pickle names as module.name."""
    made = type(name, bases, {"__module__": module, **members})
    setattr(module_of(module), name, made)
    return made


def named_function(module, name):
    """Make a stand-in function that a pickle names as module.name."""
    def made():
        pass
    made.__module__, made.__name__, made.__qualname__ = module, name, name
    setattr(module_of(module), name, made)
    return made


class Call:
    """Pickles as a call, with a state that the result is given."""

    def __init__(self, function, *args, state=None):
        self.reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.reduced


def record(made_by, **state):
    """Make an object of a stand-in class with these attributes."""
    made = made_by()
    made.__dict__.update(state)
    return made


class Storage:
    """Stands for a storage, whose bytes depend on its number."""

    def __init__(self, number, numel, dtype):
        self.number = number
        self.numel = numel
        self.dtype = dtype
        self.storage_class = STORAGES[dtype]
        self.size = numel * dtype.size


STORAGES = {dtype: named_class("torch", dtype.storage) for dtype in DTYPES.values()}
REBUILD = named_function("torch._utils", "_rebuild_tensor_v2")
SIZE = named_class("torch", "Size")


def tensor(number, shape, dtype, steps=None):
    """Give what pickles as a tensor that fills a storage of its own, contiguous unless steps are its strides."""
    storage = Storage(number, numel_of(shape), dtype)
    return Call(REBUILD, storage, 0, shape, steps or strides(shape), False, collections.OrderedDict())


def torch_size(shape):
    """Give what pickles as a torch.Size."""
    return Call(SIZE, tuple(shape))


def numel_of(shape):
    """Give the number of elements."""
    numel = 1
    for size in shape:
        numel *= size
    return numel


def strides(shape):
    """Give the strides of a contiguous tensor."""
    made, step = [], 1
    for size in reversed(shape):
        made.insert(0, step)
        step *= size
    return tuple(made)


class StoragePickler(pickle.Pickler):
    """Writes storages as torch's persistent ids and remembers them in their order."""

    def __init__(self, file, legacy=False):
        super().__init__(file, protocol=2)
        self.legacy = legacy
        self.storages = []
        self.keys = {}

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        if value not in self.keys:
            self.keys[value] = str(len(self.storages))
            self.storages.append(value)
        pid = "storage", value.storage_class, self.keys[value], "cpu", value.numel
        return (*pid, None) if self.legacy else pid


def pickled(value, legacy=False):
    """Pickle a value; give the pickle and the storages in it."""
    made = io.BytesIO()
    pickler = StoragePickler(made, legacy)
    pickler.dump(value)
    return made.getvalue(), pickler.storages


# --- the data ---------------------------------------------------------------------------------------------


class Data:
    """The bytes of all storages: pieces of one block, started at another place for each number."""

    def __init__(self, dtype):
        # Twice, so that every turn of the block is a slice of it and small storages cost no copy.
        self.block = memoryview(finite_block(dtype.size) * 2)
        self.crcs = {}

    def pieces(self, number, size):
        """Give the bytes of a storage piece by piece."""
        start = number * 4096 * 37 % BLOCK
        turned = self.block[start:start + BLOCK]
        whole, rest = divmod(size, BLOCK)
        for _ in range(whole):
            yield turned
        if rest:
            yield turned[:rest]

    def whole(self, number, size):
        """Give the bytes of a storage."""
        return b"".join(self.pieces(number, size))

    def crc(self, number, size):
        """Give the CRC-32 of a storage, remembering those that come again."""
        key = (number * 37 % 256, size)
        if key not in self.crcs:
            crc = 0
            for piece in self.pieces(number, size):
                crc = zlib.crc32(piece, crc)
            self.crcs[key] = crc
        return self.crcs[key]


def finite_block(item_size):
    """Make one pseudo-random block of finite numbers whose exponents are those of common weights."""
    data = bytearray(random.Random(0).randbytes(BLOCK))
    top = data[item_size - 1::item_size]
    exponents = bytes((byte & 0x80) | (0x30 + byte % 16) for byte in range(256))
    data[item_size - 1::item_size] = top.translate(exponents)
    return bytes(data)


# --- the zip ----------------------------------------------------------------------------------------------


class ZipWriter:
    """Writes entries as torch's own zip writer does; its offsets count from where the file is."""

    def __init__(self, file, prefix, method=0):
        self.file = file
        self.prefix = prefix
        self.method = method
        self.entries = []
        self.offset = 0

    def write(self, data):
        """Write bytes and keep count."""
        self.file.write(data)
        self.offset += len(data)

    def start(self, name, size):
        """Write a local header, so that the data starts at a multiple of the alignment."""
        name, start = f"{self.prefix}/{name}".encode(), self.offset
        wide = zip64_extra(size, start)
        extra = wide + self.padding(start + 30 + len(name) + len(wide))
        fields = 0, FLAGS, self.method, 0, 0, 0, 0, 0, len(name), len(extra)
        self.write(struct.pack("<4s5H3I2H", b"PK\x03\x04", *fields))
        self.write(name + extra)
        return name, start, self.offset

    def end(self, started, crc, size):
        """Write the data descriptor of an entry."""
        name, start, data = started
        packed = self.offset - data
        form = "<4sIQQ" if zip64_extra(size, start) else "<4s3I"
        self.write(struct.pack(form, b"PK\x07\x08", crc, packed, size))
        self.entries.append(Entry(name, self.method, crc, packed, size, start))

    def add(self, name, size, crc, pieces):
        """Write one entry."""
        started = self.start(name, size)
        packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS) if self.method else None
        for piece in pieces:
            self.write(packer.compress(piece) if packer else piece)
        if packer:
            self.write(packer.flush())
        self.end(started, crc, size)

    def add_bytes(self, name, data):
        """Write one small entry."""
        self.add(name, len(data), zlib.crc32(data), [data])

    def add_head(self):
        """Write the small entries that follow data.pkl."""
        self.add_bytes(".format_version", b"1")
        self.add_bytes(".storage_alignment", str(ALIGNMENT).encode())
        self.add_bytes("byteorder", b"little")

    @staticmethod
    def padding(position):
        """Give an extra field that moves a position, itself included, to a multiple of the alignment."""
        fill = -(position + 4) % ALIGNMENT
        return struct.pack("<2sH", b"FB", fill) + b"Z" * fill

    def finish(self):
        """Write the central directory and the end records, of which torch always writes the 64-bit ones too."""
        self.add_bytes("version", b"3\n")
        start = self.offset
        for entry in self.entries:
            self.write(central_header(entry))
        size, count, end = self.offset - start, len(self.entries), self.offset
        self.write(struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start))
        self.write(struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1))
        few = min(count, 0xFFFF)
        fields = 0, 0, few, few, min(size, OVERFLOW), min(start, OVERFLOW), 0
        self.write(struct.pack("<4s4H2IH", b"PK\x05\x06", *fields))


def zip64_extra(size, offset):
    """Give the extra field for what needs 64 bits; torch puts an overflowing offset into the local header as well."""
    wide = [value for value in (size, size, offset) if value >= OVERFLOW]
    return struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""


def central_header(entry):
    """Give an entry of the central directory."""
    wide = [value for value in (entry.size, entry.packed, entry.offset) if value >= OVERFLOW]
    extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    packed, size, offset = (min(value, OVERFLOW) for value in (entry.packed, entry.size, entry.offset))
    return struct.pack(
        "<4s6H3I5H2I", b"PK\x01\x02", 0, 0, FLAGS, entry.method, 0, 0, entry.crc, packed, size,
        len(entry.name), len(extra), 0, 0, 0, 0, offset,
    ) + entry.name + extra


def write_zip(file, prefix, value, data, method=0):
    """Write a value as torch.save does since 1.6; give the number of bytes."""
    content, storages = pickled(value)
    archive = ZipWriter(file, prefix, method)
    archive.add_bytes("data.pkl", content)
    archive.add_head()
    for key, storage in enumerate(storages):
        crc, pieces = data.crc(storage.number, storage.size), data.pieces(storage.number, storage.size)
        archive.add(f"data/{key}", storage.size, crc, pieces)
    archive.finish()
    return archive.offset


def save(path, value, data, method=0):
    """Write a value to a file as torch.save does since 1.6."""
    with open(path, "wb") as file:
        write_zip(file, path.stem, value, data, method)


