#!/usr/bin/env python3
"""Write fixtures/config/: checkpoints with much besides tensors, and the JSON that is expected of it.

    python3.11 -m venv venv
    venv/bin/pip install torch==2.15.0 numpy==2.4.6 safetensors==0.8.0 lightning==2.6.6 omegaconf==2.4.0 \
        ultralytics==8.4.190
    venv/bin/python scripts/fixtures_config.py

The JSON is computed here from the real objects, by the rules of docs/json.md and by Python's own protocol for
copying objects (`__reduce_ex__`), never by ckpt2st.
"""

import argparse
import collections
import copyreg
import dataclasses
import datetime
import decimal
import enum
import functools
import json
import math
import os
import pathlib
import tempfile
import types
import uuid

from fixture_run import PINNED as BASE, commands, finish, settle_hashes, start

if __name__ == "__main__":
    settle_hashes()
os.environ.update({"YOLO_CONFIG_DIR": tempfile.mkdtemp(), "YOLO_OFFLINE": "1", "YOLO_VERBOSE": "false"})

import lightning.fabric.utilities.data
import numpy
import omegaconf
import torch
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from fixture_book import FIXTURES, LEGACY, Book, network, normal, small_weights
from fixture_networks import hide_paths

PINNED = {**BASE, "lightning": "2.6.6", "omegaconf": "2.4.0", "ultralytics": "8.4.190"}
AttributeDict = lightning.fabric.utilities.data.AttributeDict

README = """# What checkpoints know besides tensors

Everything here is written by `scripts/fixtures_config.py`; edit that, not these files.

{commands}

Made with Python {python}, torch {torch}, on {machine}.

`manifest.json` names an input, here or in another folder of fixtures, and the JSON that `inspect` is expected to show as
its `config`. The JSON is computed in Python from the real objects. Running the script again gives other keys in
`module_legacy.pt`: the storages of a legacy stream are called after memory addresses.

{total}

{files}
"""

# --- the rules of docs/json.md --------------------------------------------------------------------------------

NOTHING = object()
LONGEST = 64 * 1024
OF_MODULES = {"_buffers", "_modules", "_non_persistent_buffers_set", "_parameters"}
PLAIN_DICTS = (dict, collections.OrderedDict, collections.defaultdict, collections.Counter, AttributeDict)


class Converter:
    """Turns Python values into JSON."""

    def __init__(self):
        self.around = []

    def value(self, value):
        """Give the JSON of a value; NOTHING for a tensor, and for what held nothing but tensors."""
        kind = type(value)
        if isinstance(value, (torch.Tensor, torch.UntypedStorage, torch.TypedStorage, numpy.ndarray)):
            return NOTHING
        if value is None or kind is bool:
            return value
        if kind is int:
            return value if -2**63 <= value < 2**64 else str(value)
        if kind is float:
            return value if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
        if kind is str:
            data = value.encode("utf-8", "surrogatepass")
            return {"__str__": len(data)} if len(data) > LONGEST else data.decode("utf-8", "replace")
        if kind in (bytes, bytearray):
            return {"__bytes__": len(value)}
        if isinstance(value, numpy.generic) and value.dtype.kind in "biuf":
            return self.value(value.item())
        if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
            return f"{value.__module__}.{value.__qualname__}"
        if kind is torch.dtype or kind is torch.device:
            return str(value)
        if isinstance(value, pathlib.PurePath):
            return str(value)
        if any(value is other for other in self.around):
            return {"__cycle__": True}
        self.around.append(value)
        try:
            return self.container(value)
        finally:
            self.around.pop()

    def container(self, value):
        """Give the JSON of a value with others inside."""
        kind = type(value)
        if isinstance(value, (DictConfig, ListConfig)):
            return self.value(OmegaConf.to_container(value, resolve=False))
        if isinstance(value, omegaconf.Node):
            return self.value(value._value())
        if kind in PLAIN_DICTS:
            return self.held(self.fields(value.items()), value)
        if kind in (list, tuple, set, frozenset, torch.Size):
            return self.held(self.items(value), value)
        if isinstance(value, torch.nn.Module):
            attributes = [(k, v) for k, v in vars(value).items()
                          if k not in OF_MODULES and not (k.startswith("_") and "_hook" in k)]
            fields = self.fields(attributes) | self.fields(value._modules.items())
            return {**fields, "__class__": self.value(kind)}
        return self.anything(value)

    def anything(self, value):
        """Give class, fields, arguments and items of an object, as Python's pickler takes it apart."""
        made, args, state, items, pairs = (*value.__reduce_ex__(2), None, None, None)[:5]
        if made is copyreg.__newobj__:
            made, args = args[0], args[1:]
        found = {}
        if type(state) is tuple and len(state) == 2 and type(state[1]) is dict:
            state = {**(state[0] or {}), **state[1]}
        if type(state) is dict:
            found.update(self.fields(state.items()))
        elif state is not None:
            found.update(self.fields([("__state__", state)]))
        found.update(self.fields(pairs or ()))
        for key, listed in (("__args__", list(args)), ("__items__", list(items or ()))):
            if self.items(listed):
                found[key] = self.items(listed)
        return {**found, "__class__": self.value(made)}

    def fields(self, pairs):
        """Give the entries that are no tensors."""
        pairs = [(self.key(key), self.value(value)) for key, value in pairs]
        return {key: value for key, value in pairs if value is not NOTHING}

    def items(self, items):
        """Give the items that are no tensors."""
        return [item for item in map(self.value, items) if item is not NOTHING]

    def held(self, found, value):
        """Give what is left of a container, unless it held nothing but tensors."""
        return found if found or not len(value) else NOTHING

    def key(self, key):
        """Give a key as text."""
        if type(key) in (int, bool):
            return str(key)
        found = self.value(key)
        return found if isinstance(found, str) else dump(found)


def dump(value, **options):
    """Give JSON text."""
    if not options:
        options = {"separators": (",", ":")}
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, **options)


def config(value):
    """Give what a file with that value at its top is expected to know besides tensors."""
    convert = Converter()
    if type(value) in (list, tuple):
        return convert.fields(enumerate(value))
    found = convert.value(value)
    return found if isinstance(found, dict) else {}


# --- classes of a script that trains --------------------------------------------------------------------------


class Colour(enum.Enum):
    """An enum."""

    RED = 1


class Level(enum.IntEnum):
    """An enum whose members are integers."""

    HIGH = 7


Mode = enum.Enum("Mode", {"FAST": "fast"}, module="__main__")


@dataclasses.dataclass
class Schedule:
    """A data class."""

    warmup: int
    betas: tuple = (0.9, 0.999)
    best: object = None


class Slotted:
    """An object without a dict."""

    __slots__ = ("left", "right")


class Settings:
    """A class with one inside, and a method."""

    class Inner:
        """A nested class."""

    def __init__(self, **fields):
        self.__dict__.update(fields)

    def scale(self, factor):
        """Give the factor."""
        return factor


class Bag(dict):
    """A dict with attributes."""


class Stack(list):
    """A list with attributes."""


class Number(float):
    """A float that is an object."""


Point = collections.namedtuple("Point", "x y")


class Head(torch.nn.Module):
    """A module with attributes of many kinds."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(2, 2), torch.nn.Dropout(0.25)])
        self.register_buffer("scale", torch.ones(2), persistent=False)
        self.absent = None
        self.names = {0: "cat", 1: "dog"}
        self.plain = torch.ones(3)
        self.act = torch.nn.functional.relu
        self.device = torch.device("cuda", 1)
        self.add_module("nothing", None)
        self.args = argparse.Namespace(lr=0.1, shape=torch.Size([2, 3]))
        self.register_forward_hook(print)


@dataclasses.dataclass
class Structure:
    """A structured configuration of omegaconf."""

    width: int = 3
    mode: Colour = Colour.RED
    folder: pathlib.Path = pathlib.Path("runs")


# --- the files --------------------------------------------------------------------------------------------------


def values():
    """Give a value of every plain kind."""
    shared = {"lr": 0.1}
    return {
        "state_dict": small_weights(),
        "none": None, "true": True, "int": -3, "zero": 0, "float": 0.1, "tiny": 5e-324, "minus": -0.0,
        "text": "größe\n\u0000", "empty": "", "surrogate": "a\ud800b",
        "bytes": b"\x00\xff\x80", "no bytes": b"", "bytearray": bytearray(b"abc"), "long bytes": b"abc" * 3000,
        "nan": math.nan, "inf": math.inf, "-inf": -math.inf,
        "ints": [2**31, -2**31 - 1, 2**63 - 1, -2**63, 2**63, 2**64 - 1, 2**64, -2**63 - 1, 10**40, -10**40, 256**20],
        "list": [1, [2, []]], "tuple": (1, (2,), ()), "set": {"one"}, "frozenset": frozenset([2]), "no set": set(),
        "shared": [shared, shared], "no dict": {},
        "keys": {0: "int", -1: "negative", True: "bool", None: "none", 2.5: "float", (1, "a"): "tuple",
                 2**70: "large", b"ab": "bytes", Colour.RED: "enum", Settings: "class", "": "empty", "a.b": "dots",
                 frozenset(): "set"},
        "size": torch.Size([2, 3]), "no size": torch.Size([]), "dtypes": [torch.float32, torch.half, torch.float8_e4m3fn],
        "devices": [torch.device("cuda:0"), torch.device("cpu"), torch.device("mps")],
        "ordered": collections.OrderedDict([("b", 1), ("a", 2)]), "counter": collections.Counter("aab"),
        "default": collections.defaultdict(list, {"x": [1]}),
    }


def objects():
    """Give objects of classes that every Python has, and of a script's own."""
    slotted = Slotted()
    slotted.left, slotted.right = 1, torch.ones(1)
    bag, stack = Bag(lr=0.1), Stack([1, torch.ones(1)])
    bag.name, stack.name = "bag", "stack"
    now = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    return {
        "model": small_weights(), "epoch": 3,
        "args": argparse.Namespace(lr=1e-4, layers=[1, 2], weights=torch.ones(2), nested=argparse.Namespace(a=1)),
        "paths": [pathlib.Path("/data/run 1"), pathlib.Path("a/b"), pathlib.Path("."), pathlib.Path("/"),
                  pathlib.PurePosixPath("x"), pathlib.PureWindowsPath("C:\\data\\x"), pathlib.PureWindowsPath("a/b")],
        "dates": [now, now.date(), now.time(), now - now, datetime.timedelta(1, 2, 3)],
        "enums": [Colour.RED, Level.HIGH, Mode.FAST], "schedule": Schedule(100), "slotted": slotted,
        "partial": functools.partial(torch.optim.Adam, lr=0.1), "max": max, "loss": torch.nn.functional.mse_loss,
        "classes": [Settings, Settings.Inner, int, torch.nn.Linear, torch.Tensor, object], "inner": Settings.Inner(),
        "method": Settings(a=1).scale, "bag": bag, "stack": stack, "number": Number(1.5), "point": Point(1, torch.ones(1)),
        "complex": 1 - 2j, "range": range(3), "slice": slice(1, None), "deque": collections.deque([1, 2], 5),
        "uuid": uuid.UUID(int=2**127), "decimal": decimal.Decimal("0.1"), "simple": types.SimpleNamespace(a=1),
        "ellipsis": [1], "finder": torch.finfo,
        "numpy": [numpy.float64(0.1), numpy.float32(0.1), numpy.float16(0.1), numpy.int64(-3), numpy.uint8(200),
                  numpy.uint64(2**63), numpy.bool_(True), numpy.float32("nan"), numpy.array([1.0]), numpy.complex64(1),
                  numpy.str_("text"), numpy.datetime64(7, "D"), numpy.dtype("float32")],
    }


def tensors():
    """Give containers with tensors in all places."""
    weight = normal(2, 2)
    return {
        "state_dict": collections.OrderedDict(a=weight, step=5),
        "only": {"a": weight, "b": [weight, (weight,)], "c": {"d": torch.nn.Parameter(weight)}},
        "some": {"a": weight, "b": [weight, 1, (weight,), {"x": weight}, {}], "c": {"d": weight, "e": None}},
        "optimizer": {"state": {0: {"step": 3, "exp_avg": weight}, 1: {"exp_avg": weight}},
                      "param_groups": [{"lr": 0.1, "params": [0, 1]}]},
        "sparse": weight.to_sparse(), "storage": torch.ones(2).untyped_storage(), "arrays": [numpy.arange(3)],
    }


def cycles():
    """Give values that lie inside themselves."""
    items, pairs, own = [1], {"a": 1}, Settings(a=1)
    items.append(items)
    pairs["self"], own.me = pairs, own
    pair = ([], 2)
    pair[0].append(pair)
    return {"state_dict": small_weights(), "list": items, "dict": pairs, "object": own, "pair": pair,
            "crossed": {"items": items, "again": items}}


def settings():
    """Give configurations as frameworks keep them."""
    made = OmegaConf.create({
        "model": {"width": 64, "rates": [0.1, "${model.width}"], "missing": "???", "none": None, 3: "three"},
        "path": pathlib.Path("/data"), "flag": True, "data": b"abc", "mode": Colour.RED, "list": [{"a": 1}, []],
    })
    return {
        "state_dict": small_weights(), "hydra": made, "part": made.model.rates, "structured": OmegaConf.structured(Structure),
        "node": omegaconf.AnyNode(3), "empty": DictConfig(None),
        "hyper_parameters": AttributeDict(lr=0.1, optimizer=AttributeDict(name="adam"), none=AttributeDict()),
    }


def module():
    """Give a module with more than tensors in it."""
    made = torch.nn.Sequential(collections.OrderedDict(body=network(), head=Head()))
    made.eval()
    made.yaml = {"nc": 2, "depth": 0.33}
    return made


def case(book, name, value, **options):
    """Save a value, and what is expected of it."""
    torch.save(value, book.folder / f"{name}.pt", **options)
    book.about[f"{name}.pt"] = f"saved by torch: {name.replace('_', ' ')}"
    expect(book, name, f"{name}.pt", value)


def expect(book, name, file, value):
    """Write down what is expected of a file."""
    path = f"{name}.config.json"
    (book.folder / path).write_text(dump(config(value), indent=1) + "\n", encoding="utf-8")
    book.about[path] = f"what `{file}` knows besides tensors"
    book.cases.append({"name": name, "input": file, "config": path})


def others(book):
    """Expect the configurations of files in other folders, as torch loads them."""
    for name, file in (
        ("lightning", "frameworks/lightning.ckpt"), ("lightning_averaged", "frameworks/lightning_averaged.ckpt"),
        ("ultralytics", "frameworks/ultralytics_best.pt"), ("lists", "list.pt"), ("training", "training.pt"),
        ("bare_tensor", "bare_tensor.pt"), ("no_wrapper", "zip.pt"),
    ):
        expect(book, name, f"../{file}", torch.load(FIXTURES / file, map_location="cpu", weights_only=False))
    with tempfile.TemporaryDirectory() as folder:
        for name in ("training", "objects"):
            whole = pathlib.Path(folder) / "whole.pt"
            dcp_to_torch_save(FIXTURES / "distributed" / name, whole)
            value = numbered(torch.load(whole, weights_only=False))
            expect(book, f"distributed_{name}", f"../distributed/{name}", value)


def numbered(value):
    """Give lists of dicts as dicts: a distributed checkpoint saves their items one by one, under numbers."""
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        value = dict(enumerate(value))
    return {key: numbered(item) for key, item in value.items()} if isinstance(value, dict) else value


def main():
    """Write the whole folder."""
    book = Book(FIXTURES / "config")
    start(book, PINNED)
    torch.manual_seed(0)
    hide_paths()
    for protocol in (2, 4):
        case(book, f"values_{protocol}", values(), pickle_protocol=protocol)
        case(book, f"objects_{protocol}", objects(), pickle_protocol=protocol)
    case(book, "tensors", tensors())
    case(book, "cycles", cycles())
    case(book, "cycles_5", cycles(), pickle_protocol=5)
    case(book, "settings", settings())
    case(book, "module", module())
    case(book, "module_legacy", module(), **LEGACY)
    case(book, "items", [small_weights(), {"lr": 0.1}, normal(2), (1, normal(2))])
    others(book)
    finish(book, README, PINNED, commands=commands("fixtures_config.py", PINNED))


if __name__ == "__main__":
    main()
