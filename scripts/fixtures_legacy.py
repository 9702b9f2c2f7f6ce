#!/usr/bin/env python3
"""Write fixtures/legacy/: streams and tar files from before torch 1.6, and gzip (see that folder's README.md)."""

import gzip
import io
import pickle
import struct
import tarfile
from collections import OrderedDict

import torch

from fixture_book import LEGACY, Form, adam_state, count, from_bits, normal, small_weights
from fixture_run import OLD, write_folder

NOTES = """
**Reference outputs** hold the tensors that `torch.load` gives. For `untyped.pt` these are the tensors that
were saved: torch writes such files and cannot read them back. For gzip, torch reads what `gzip.open` gives. The files
called `hand_*` are written by this script in the layout of `torch.serialization`, with pickle forms that today's
writer no longer gives, and torch reads them (the tar with `weights_only=False`). In all other streams the keys of
storages are memory addresses, so running the script again gives other keys there, and with them another order of
storages; the reference outputs do not change. A stream with a whole module is among `fixtures/modules/`."""


# --- streams that torch writes --------------------------------------------------------------------------------


def many_kinds():
    """Give tensors of every dtype that a stream keeps, and views of all kinds."""
    base, wide = count(6, 8) - 20, count(40)
    made = {str(dtype).removeprefix("torch."): (count(5) - 1).to(dtype) for dtype in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
        torch.uint8, torch.bool, torch.complex64)}
    return {
        **made, "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "empty_slice": wide[4:4],
        "rows": base[1:3], "columns": base[:, 2:5], "turned": base.t(), "strided": wide[3::7],
        "expanded": torch.tensor([[1.0], [2.0]]).expand(2, 3), "parameter": torch.nn.Parameter(normal(2, 3)),
        "tied.a": wide, "tied.b": wide, "ünïcode": normal(1),
    }


def stream_cases(book):
    """Streams in every pickle protocol that torch loads."""
    values, about = many_kinds(), "a legacy stream with all dtypes and views"
    for protocol in (1, 2, 3, 4, 5):
        file = f"kinds_p{protocol}.pt"
        book.save(file, f"{about}, pickle protocol {protocol}", values, pickle_protocol=protocol, **LEGACY)
        book.expect(f"{about}, pickle protocol {protocol}", file, book.load(file), "kinds.safetensors")
    book.save("x_protocol_0.pt", "a legacy stream in pickle protocol 0", small_weights(), pickle_protocol=0, **LEGACY)
    book.fail("a legacy stream in pickle protocol 0 is refused, as torch does", "x_protocol_0.pt", "unsupported",
              ["protocol 0"])
    untyped = {
        "wide": torch.tensor([1, 513], dtype=torch.uint16), "longer": torch.tensor([2**63], dtype=torch.uint64),
        "float8": from_bits([0x38, 0x40, 0x48], torch.float8_e4m3fn)[1:], "plain": normal(2),
    }
    book.save("untyped.pt", "a legacy stream with untyped storages, which torch writes and cannot read", untyped,
              **LEGACY)
    book.expect("untyped storages in a legacy stream", "untyped.pt", untyped)
    book.save("training.pt", "a legacy stream with model, optimizer and epoch", {
        "model": small_weights(), "optimizer": adam_state([(3, 4), (3,)]), "epoch": 3}, **LEGACY)
    book.expect("a legacy stream of a training checkpoint", "training.pt", book.load("training.pt")["model"])
    book.save("bare.pt", "a legacy stream of a bare tensor", normal(2, 2), **LEGACY)
    book.expect("a legacy stream of a bare tensor", "bare.pt", {"tensor": book.load("bare.pt")})


def old_stream_cases(book):
    """Streams that torch 1.13.1 writes."""
    OLD.write(book, "legacy", {f"old_p{protocol}.pt": f"a legacy stream in pickle protocol {protocol}"
                               for protocol in (2, 3, 4, 5)})
    for protocol in (2, 3, 4, 5):
        file = f"old_p{protocol}.pt"
        book.expect(book.about[file], file, book.load(file), "old.safetensors")


# --- streams by hand ------------------------------------------------------------------------------------------


class Storage:
    """A storage, or a view of one, that a pickle names by a persistent id."""

    def __init__(self, kind, key, size, view=None):
        self.id = ("storage", kind, key, "cpu", size, view)

    def tensor(self, offset, size, stride):
        """Give a tensor on this storage."""
        return Form(torch._utils._rebuild_tensor_v2, (self, offset, size, stride, False, OrderedDict()))


class Pickler(pickle._Pickler):
    """A pickler that writes what a value's `id` says as a persistent id."""

    def persistent_id(self, obj):
        return getattr(obj, "id", None) if isinstance(obj, (Storage, Named)) else None


def pickled(value, pickler=Pickler):
    """Pickle a value with persistent ids."""
    made = io.BytesIO()
    pickler(made, 2).dump(value)
    return made.getvalue()


class Python2Pickler(Pickler):
    """A pickler that writes text as byte strings and ordered dicts as lists of pairs, as Python 2 did."""

    def save_text(self, text):
        data = text.encode()
        self.write(pickle.SHORT_BINSTRING + bytes([len(data)]) + data)
        self.memoize(text)

    def save_pairs(self, pairs):
        self.save_reduce(OrderedDict, ([list(pair) for pair in pairs.items()],), obj=pairs)

    dispatch = {**pickle._Pickler.dispatch, str: save_text, OrderedDict: save_pairs}


def raw(tensor):
    """Give a storage as a stream holds it: the count of elements and their bytes."""
    return struct.pack("<q", tensor.numel()) + tensor.numpy().tobytes()


def stream(value, storages, little=True, pickler=Pickler):
    """Write a legacy stream, with storages given as key to tensor."""
    info = {"protocol_version": 1001, "little_endian": little, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    heads = [0x1950A86A20F9469CFC6C, 1001, info]
    parts = [*(pickle.dumps(head, 2) for head in heads), pickled(value, pickler), pickle.dumps(sorted(storages), 2)]
    return b"".join([*parts, *(raw(storages[key]) for key in sorted(storages))])


def hand_value():
    """Give a value with views of storages, and its storages."""
    floats, longs = torch.FloatStorage, torch.LongStorage
    root, second = Storage(floats, "900", 12), Storage(longs, "1000", 4)
    view, same = Storage(floats, "900", 12, ("901", 4, 6)), Storage(floats, "900", 12, ("901", 4, 6))
    tail = Storage(longs, "1000", 4, ("1001", 3, 1))
    value = {
        "root": root.tensor(0, (3, 4), (4, 1)), "view": view.tensor(0, (2, 3), (3, 1)),
        "view_turned": same.tensor(1, (2, 2), (1, 2)), "long": second.tensor(0, (4,), (1,)),
        "tail": tail.tensor(0, (), ()),
    }
    return value, {"900": count(12), "1000": count(4, dtype=torch.int64) * 1000}


def view_first():
    """Give a value that names a view of a storage before the storage itself."""
    view, root = Storage(torch.HalfStorage, "7", 5, ("8", 2, 3)), Storage(torch.HalfStorage, "7", 5)
    value = {"view": view.tensor(0, (3,), (1,)), "whole": root.tensor(0, (5,), (1,))}
    return value, {"7": count(5, dtype=torch.float16)}


def python_2():
    """Give an ordered dict in a wrapper, with a name that is not ASCII."""
    storage = Storage(torch.FloatStorage, "140012", 12)
    weights = OrderedDict([("weight", storage.tensor(0, (2, 3), (3, 1))), ("gewölbt", storage.tensor(6, (6,), (1,)))])
    return {"state_dict": weights, "epoch": 3, "arch": "resnet"}, {"140012": count(12)}


def hand_cases(book):
    """Streams with views of storages, and with trailing bytes or a foreign byte order in their header."""
    value, storages = hand_value()
    good = stream(value, storages)
    made = [
        ("hand_views.pt", "views of storages in the persistent ids", good, None),
        ("hand_view_first.pt", "a view that comes before its storage", stream(*view_first()), None),
        ("hand_trailing.pt", "trailing bytes after the last storage", good + bytes(100), "hand_views.safetensors"),
        ("hand_big.pt", "a header that says big-endian, over little-endian data", stream(value, storages, False),
         "hand_views.safetensors"),
    ]
    for file, about, data, output in made:
        book.write(file, f"a legacy stream with {about}", data)
        book.expect(f"a legacy stream with {about}", file, book.load(file), output)
    book.write("hand_python_2.pt", "a legacy stream as Python 2 wrote it: byte strings, and pairs in ordered dicts",
               stream(*python_2(), pickler=Python2Pickler))
    book.expect("a legacy stream of Python 2", "hand_python_2.pt", book.load("hand_python_2.pt")["state_dict"])
    assert book.load("hand_views.pt")["view_turned"].tolist() == [[5, 7], [6, 8]]


def damaged_cases(book):
    """Streams with parts cut or changed."""
    value, storages = hand_value()
    good, last = stream(value, storages), raw(storages["900"])
    assert good.endswith(last)
    start, wrong = good[:-len(last)], storages["900"].numpy().tobytes()
    outside = {"weight": Storage(torch.FloatStorage, "900", 12, ("901", 8, 6)).tensor(0, (6,), (1,))}
    made = [
        ("x_cut_data.pt", "cut inside the last storage", good[:-10], ["truncated"]),
        ("x_cut_pickle.pt", "cut inside the pickle", good[:200], ["truncated"]),
        ("x_cut_count.pt", "cut inside a count of elements", start[:-40 + 4], ["truncated"]),
        ("x_count.pt", "a count of elements that is one too small", start + struct.pack("<q", 11) + wrong,
         ['"900"', "11 elements"]),
        ("x_count_negative.pt", "a negative count of elements", start + struct.pack("<q", -1) + wrong,
         ['"900"', "-1 elements"]),
        ("x_count_huge.pt", "a count of elements beyond all bounds", start + struct.pack("<q", 2**61) + wrong,
         ['"900"', f"{2**61} elements"]),
        ("x_view_outside.pt", "a view that ends outside its storage", stream(outside, {"900": count(12)}),
         ['"901"', "beyond"]),
        ("x_no_storage.pt", "a storage that the stream does not hold", stream(value, {"900": count(12)}),
         ['storage "1000"', "missing"]),
    ]
    for file, about, data, mentions in made:
        book.write(file, f"a legacy stream with damage: {about}", data)
        book.fail(f"a damaged legacy stream: {about}", file, "corrupt", mentions)


# --- the tar of torch 0.1 ---------------------------------------------------------------------------------------


class Named:
    """A tensor or a class that the pickle of a tar names by a persistent id."""

    def __init__(self, id):
        self.id = id


def tar(members):
    """Write a tar with settled dates and owners."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


def tar_storages(storages, views):
    """Write the storages of a tar, given as (key, class, values), and views as (key, root key, offset, size)."""
    parts = [pickle.dumps(len(storages), 2)]
    for key, kind, values in storages:
        parts += [pickle.dumps((key, "cpu", kind), 2), raw(values)]
    return b"".join([*parts, pickle.dumps(views, 2)])


def tar_tensors(tensors):
    """Write the tensors of a tar, given as (key, storage key, class, size, stride, offset)."""
    parts = [pickle.dumps(len(tensors), 2)]
    for key, storage, kind, size, stride, offset in tensors:
        rank = len(size)
        parts += [pickle.dumps((key, storage, kind), 2),
                  struct.pack(f"<ii{rank}q{rank}qq", rank, 0, *size, *stride, offset)]
    return b"".join(parts)


def tar_value():
    """Give the value of the tar: a wrapped state dict and a module class."""
    weights = OrderedDict((name, Named(key)) for name, key in (
        ("weight", 10), ("turned", 11), ("bias", 12), ("slice", 13), ("steps", 14), ("tied", 10), ("view", 15)))
    module_class = Named((torch.nn.Linear, "linear.py", "class Linear(Module):\n    pass\n"))
    return {"state_dict": weights, "epoch": 3, "arch": "old", "class": module_class}


def tar_members():
    """Give the members of a good tar."""
    info = {"protocol_version": 1000, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    storages = [(1, torch.FloatStorage, count(12)), (2, torch.DoubleStorage, normal(3, dtype=torch.float64)),
                (3, torch.LongStorage, torch.tensor([2**40]))]
    tensors = [
        (10, 1, torch.FloatTensor, (3, 4), (4, 1), 0), (11, 1, torch.FloatTensor, (4, 3), (1, 4), 0),
        (12, 2, torch.DoubleTensor, (3,), (1,), 0), (13, 1, torch.FloatTensor, (2, 2), (4, 1), 5),
        (14, 3, torch.LongTensor, (1,), (1,), 0), (15, 4, torch.FloatTensor, (2,), (1,), 1),
    ]
    return {"sys_info": pickle.dumps(info, 2), "pickle": pickled(tar_value()),
            "tensors": tar_tensors(tensors), "storages": tar_storages(storages, [(4, 1, 6, 4)])}


def tar_cases(book):
    """Tar files: good, cut, and no checkpoint."""
    members = tar_members()
    book.write("hand_tar.pt", "the tar of torch 0.1: shared storages, a view of a storage, a module class",
               tar(members))
    loaded = book.load("hand_tar.pt")["state_dict"]
    assert loaded["view"].tolist() == [7, 8] and loaded["slice"].tolist() == [[5, 6], [9, 10]]
    book.expect("the tar of torch 0.1", "hand_tar.pt", loaded)
    book.write("hand_tar_order.pt", "the tar of torch 0.1 with its members in another order",
               tar({name: members[name] for name in sorted(members)}))
    book.expect("the tar of torch 0.1, other order", "hand_tar_order.pt", book.load("hand_tar_order.pt")["state_dict"],
                "hand_tar.safetensors")
    book.write("x_tar_other.pt", "a tar that is no checkpoint", tar({"notes/read.txt": b"hello\n"}))
    book.fail("a tar that is no checkpoint is refused", "x_tar_other.pt", "not a checkpoint", ["tar"])
    book.write("x_tar_cut.pt", "the tar of torch 0.1, with its storages cut",
               tar({**members, "storages": members["storages"][:-100]}))
    book.fail("a tar whose storages are cut is refused", "x_tar_cut.pt", "corrupt", ["storage"])


# --- gzip -------------------------------------------------------------------------------------------------------


def gzip_cases(book):
    """Checkpoints inside gzip."""
    value, storages = hand_value()
    saved = io.BytesIO()
    torch.save(small_weights(), saved)
    made = [
        ("gzip_stream.pt.gz", "a legacy stream", stream(value, storages), "hand_views.safetensors"),
        ("gzip_zip.pt", "a zip checkpoint", saved.getvalue(), None),
    ]
    for file, about, data, output in made:
        book.write(file, f"gzip around {about}", gzip.compress(data, mtime=0))
        with gzip.open(book.folder / file) as opened:
            book.expect(f"gzip around {about}", file, torch.load(opened, weights_only=False), output)
    book.write("x_gzip_text.pt", "gzip around a text", gzip.compress(b"Not a model.\n", mtime=0))
    book.fail("gzip around a text is refused", "x_gzip_text.pt", "not a checkpoint", ["gzip", "text"])
    book.write("x_gzip_cut.pt", "gzip_zip.pt cut at 60 %", gzip.compress(saved.getvalue(), mtime=0)[:400])
    book.fail("gzip that is cut is refused", "x_gzip_cut.pt", "corrupt", ["gzip", "truncated"])


if __name__ == "__main__":
    write_folder("fixtures_legacy.py", "legacy", "Fixtures: legacy streams, tar and gzip", NOTES, [
        stream_cases, old_stream_cases, hand_cases, damaged_cases, tar_cases, gzip_cases], [OLD])
