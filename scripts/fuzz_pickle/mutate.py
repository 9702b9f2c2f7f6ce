"""Streams made of others: of real pickles, by changes of bytes and opcodes, and behind what looks like other formats."""

import io
import pickle
import pickletools
import struct
import tarfile
import zipfile
from collections import OrderedDict
from decimal import Decimal

from streams import Grammar


class Point:
    def __init__(self):
        self.x, self.y = 1, [2.5, "three"]


class Slots:
    __slots__ = ("a", "b")

    def __init__(self):
        self.a, self.b = 1, None

    def __getstate__(self):
        return None, {"a": 1, "b": b"two"}

    def __setstate__(self, state):
        pass


class WithItems(list):
    pass


class WithKwargs:
    def __new__(cls, *, a):
        return super().__new__(cls)

    def __getnewargs_ex__(self):
        return (), {"a": 1}


def real_pickles():
    """Pickles of CPython's own picklers in every protocol, as pieces."""
    shared = ["shared"]
    values = [
        {"w": [1, -1, 255, 65536, 1 << 40, -(1 << 80)], "b": (True, False, None, 1.5, float("nan"))},
        [b"bytes", bytearray(b"array"), "text \u00e9 \\u0041 \n", {1, 2}, frozenset("ab"), shared, shared],
        OrderedDict(a=Point(), b=Slots(), c=WithItems([1, 2])),
        (WithKwargs(a=1), Decimal("1.5"), range(3), complex(1, 2), Point, len),
        {"long": "x" * 70000, "bytes": b"y" * 70000},
        [[[[]]], ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)), {}, set()],
    ]
    streams = []
    for value in values:
        for protocol in range(6):
            for pickler in (pickle._Pickler, pickle.Pickler):
                file = io.BytesIO()
                pickler(file, protocol).dump(value)
                streams.append(pieces_of(file.getvalue()))
    return streams


def pieces_of(data):
    starts = [position for _, _, position in pickletools.genops(data)] + [len(data)]
    return [data[start:end] for start, end in zip(starts, starts[1:])]


def mutated(random, pieces, more):
    """The same pieces with a few changes; `more` gives others to put between."""
    pieces = list(pieces)
    for _ in range(random.choice([1, 1, 2, 4])):
        at = random.randrange(len(pieces) + 1)
        change = random.randrange(7)
        if change == 0:
            pieces[at:at] = more()
        elif change == 1:
            pieces[at:at + random.randrange(1, 4)] = []
        elif change == 2:
            pieces[at:at] = pieces[at:at + random.randrange(1, 4)]
        elif change == 3:
            other = random.randrange(len(pieces) + 1)
            pieces[at:at + 1], pieces[other:other + 1] = pieces[other:other + 1], pieces[at:at + 1]
        elif pieces[at:]:
            piece = bytearray(pieces[at])
            where = random.randrange(len(piece)) if piece else 0
            if change == 4 and piece:
                piece[where] ^= 1 << random.randrange(8)
            elif change == 5:
                piece[where:where] = bytes([random.randrange(256)])
            elif change == 6:
                del piece[where:where + 1]
            pieces[at] = bytes(piece)
    return pieces


def looks_like(random, data):
    """What a reader of pickles passes over and what another one takes for the start of its own format."""
    tail = random.choice([b"", b"{}", b'{"__metadata__":{}}' + b" " * 40])
    pop = b"0"
    choice = random.randrange(8)
    if choice == 0:  # safetensors: a length of eight bytes and JSON
        header = tail or b"{}"
        return b"C\x06\0\0\0\0\0\0"[:8] + b"0" + data if random.random() < 0.3 else (
            b"\x80\x04C" + bytes([5 + len(header)]) + b"\0" * 4 + b"{" + header + pop + data
        )
    if choice == 1:  # a zip archive's first signature, as a persistent id
        return b"PK\x03\x04\n" + pop + data
    if choice == 2:  # tar: a member whose name is a pickle, with the rest of the header in bytes
        info = tarfile.TarInfo("name")
        header = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
        skip = b"\x80\x03B" + struct.pack("<I", 512 - 7)
        header[:100] = skip.ljust(100, b"\0")
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        return bytes(header) + pop + data
    if choice == 3:  # a legacy stream of torch.save
        magic = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
        protocol = b"\x80\x02M\xe9\x03."
        return magic + protocol * random.randrange(2) + data
    if choice == 4:  # a zip archive behind it
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a/version", "3\n")
        return data + file.getvalue()
    if choice == 5:  # text
        return b"I1\n" + pop + b"S'name: model, license: mit'\n" + pop + data
    if choice == 6:  # many small pickles in front
        return b"K\1." * random.randrange(1, 4) + data
    return random.choice([b"N0", b"(1", b"]0", b"}0", b"\x88\x30", b"G        0", b"J1230"]) + data


def in_zip(data):
    """As torch.save writes it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", data)
        archive.writestr("a/byteorder", "little")
        archive.writestr("a/version", "3\n")
    return file.getvalue()


def in_npy(data):
    """As numpy writes an array of objects."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + data


class Streams:
    """Files of one batch: what is in the file, and the pickle stream that a reader of Python finds there."""

    def __init__(self, random, reals):
        self.random, self.reals = random, reals
        self.grammar = Grammar(random)

    def pieces(self):
        kind = self.random.random()
        if kind < 0.45:
            pieces = self.grammar.stream()
        elif kind < 0.6:
            pieces = mutated(self.random, self.grammar.stream(), lambda: self.grammar.value(2))
        else:
            pieces = list(self.random.choice(self.reals))
            if self.random.random() < 0.5 and pieces[0].startswith(b"\x80"):
                del pieces[0]  # what starts with PROTO is a pickle for every scanner
            at = self.random.randrange(len(pieces))
            pieces[at:at] = self.grammar.marker() + [b"0"]
            pieces = mutated(self.random, pieces, lambda: self.grammar.value(2))
        if self.random.random() < 0.2:
            pieces = [looks_like(self.random, b"")] + pieces
        if self.random.random() < 0.1:
            data = b"".join(pieces)
            pieces = [data[:self.random.randrange(len(data) + 1)]]
        return pieces

    def container(self):
        """A function that puts a stream into a file, and the name's ending."""
        kind = self.random.random()
        if kind < 0.7:
            return bytes, self.random.choice(["", ".bin", ".pt", ".pkl", ".txt", ".safetensors"])
        if kind < 0.85:
            return in_zip, ".pt"
        return in_npy, ".npy"
