"""What torch, numpy and Python write: cases for list_genuine.py."""

import argparse
import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import inspect
import io
import logging
import operator
import pathlib
import pickle
import random
import re
import types
import typing
import uuid
import warnings

import numpy
import torch
import torch.nn.utils.prune
from torch import nn

warnings.simplefilter("ignore")


class Colour(enum.Enum):
    RED = 1

    class Nested:
        pass


class Level(enum.IntFlag):
    A = 1
    B = 2


class Outer:
    class Nested:
        pass

    def method(self):
        return self

    @classmethod
    def build(cls):
        return cls()


@dataclasses.dataclass
class Config:
    sizes: list = dataclasses.field(default_factory=list)
    kind: object = None


def picklable(value, protocol=2):
    """Leave out of dicts and lists what this version cannot pickle."""
    if isinstance(value, dict):
        return {key: picklable(item, protocol) for key, item in value.items() if fits(item, protocol)}
    return [item for item in value if fits(item, protocol)] if isinstance(value, list) else value


def fits(value, protocol):
    if isinstance(value, list):
        return True
    try:
        torch.save(value, io.BytesIO(), pickle_protocol=protocol)
        return True
    except Exception:
        return False


def halve(step):
    return 0.5 ** step


def every_module():
    """One of each class of torch.nn that can be built from small numbers."""
    built = []
    for name in sorted(dir(nn)):
        cls = getattr(nn, name)
        if not (isinstance(cls, type) and issubclass(cls, nn.Module)) or name in ("Module", "DataParallel"):
            continue
        for args in ((), (2,), (2, 2), (2, 2, 1), (2, [2], [4]), (nn.ModuleList(),)):
            try:
                built.append(cls(*args))
                break
            except Exception:
                continue
    return built


def modules(book, _):
    book.save("torch", "every class of torch.nn", every_module())
    functions = [torch.relu, torch.sigmoid, torch.tanh, nn.functional.relu, nn.functional.gelu, nn.functional.silu,
                 nn.functional.mish, nn.functional.softplus, nn.functional.interpolate, nn.init.xavier_uniform_]
    book.save("torch", "activation functions", functions, "functions")
    fields = nn.Module()
    fields.norm = functools.partial(nn.LayerNorm, eps=1e-6)
    fields.gelu = functools.partial(nn.functional.gelu, approximate="tanh")
    fields.item = operator.itemgetter(0)
    fields.attr = operator.attrgetter("weight")
    fields.caller = operator.methodcaller("float")
    fields.kind = Colour.RED
    fields.level = Level.A | Level.B
    fields.nested = Outer.Nested
    fields.bound = Outer().method
    fields.classmethod = Outer.build
    fields.lower = str.lower
    book.save("torch", "callables in a module's fields", fields, "callables")
    normed = nn.Sequential(torch.nn.utils.weight_norm(nn.Linear(2, 2)), torch.nn.utils.spectral_norm(nn.Linear(2, 2)))
    book.save("torch", "weight_norm and spectral_norm by hooks", normed)
    hooked = nn.Linear(2, 2)
    hooked.register_forward_hook(functools.partial(len))
    hooked.register_forward_pre_hook(len)
    book.save("torch", "hooks", hooked)
    pruned = nn.Linear(4, 4)
    torch.nn.utils.prune.l1_unstructured(pruned, "weight", 0.5)
    book.save("torch", "pruned module", pruned)
    book.save("torch", "module as legacy file", nn.Sequential(nn.Linear(2, 2), nn.ReLU()),
              _use_new_zipfile_serialization=False)
    book.save("torch", "DataParallel", nn.DataParallel(nn.Linear(2, 2)))


def tensors(book, _):
    values = {str(dtype): torch.zeros(2, dtype=dtype) for dtype in vars(torch).values()
              if isinstance(dtype, torch.dtype) and "bits" not in str(dtype) and "uint" not in str(dtype)
              and not str(dtype).startswith(("torch.q", "torch.int1", "torch.int2", "torch.int3", "torch.int4",
                                             "torch.int5", "torch.int6", "torch.int7", "torch.float4", "torch.b"))
              or dtype in (torch.uint8, torch.int16, torch.int32, torch.int64, torch.bfloat16, torch.bool)}
    book.save("torch", "tensors of every dtype", values)
    kinds = {
        "parameter": nn.Parameter(torch.ones(2)), "sparse": torch.eye(2).to_sparse(), "csr": torch.eye(2).to_sparse_csr(),
        "quantized": torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.quint8),
        "channels": torch.quantize_per_channel(torch.ones(2, 2), torch.ones(2), torch.zeros(2), 0, torch.qint8),
        "meta": torch.empty(2, device="meta"), "conj": torch.ones(2, dtype=torch.complex64).conj(),
        "size": torch.Size([1]), "device": torch.device("cpu"), "dtype": torch.float16, "layout": torch.strided,
        "format": torch.channels_last, "rng": torch.get_rng_state(), "generator": torch.Generator().get_state(),
    }
    python = nn.Parameter(torch.ones(2))
    python.tag = "attribute"
    kinds["attributes"] = python
    book.save("torch", "kinds of tensors", picklable(kinds))
    nested = getattr(torch, "nested", None)
    if hasattr(nested, "nested_tensor"):
        book.save("torch", "nested tensor", torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]))


def training(book, _):
    for name in sorted(dir(torch.optim)):
        cls = getattr(torch.optim, name)
        if not isinstance(cls, type) or name in ("Optimizer", "LBFGS", "SparseAdam", "Muon"):
            continue
        model = nn.Linear(2, 2)
        optimizer = cls(model.parameters(), lr=0.1)
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        book.save("torch", f"optimizer {name}, whole and as state", {"whole": optimizer, "state": optimizer.state_dict()})
    lr = torch.optim.lr_scheduler
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1, momentum=0.9)
    schedulers = [
        lr.LambdaLR(optimizer, halve), lr.StepLR(optimizer, 1), lr.MultiStepLR(optimizer, [1, 2]), lr.ExponentialLR(optimizer, 0.9),
        lr.CosineAnnealingLR(optimizer, 5), lr.ReduceLROnPlateau(optimizer), lr.CyclicLR(optimizer, 0.1, 0.2),
        lr.OneCycleLR(optimizer, 0.1, 10), lr.CosineAnnealingWarmRestarts(optimizer, 5), lr.ConstantLR(optimizer),
        lr.LinearLR(optimizer), lr.PolynomialLR(optimizer), lr.SequentialLR(optimizer, [lr.ConstantLR(optimizer), lr.LinearLR(optimizer)], [2]),
        lr.ChainedScheduler([lr.ConstantLR(optimizer)]),
    ]
    for scheduler in schedulers:
        name = type(scheduler).__name__
        book.save("torch", f"scheduler {name}, state", {"state": scheduler.state_dict(), "counter": collections.Counter([1])})
        try:
            book.save("torch", f"scheduler {name}, whole", scheduler)
        except Exception:
            pass
    averaged = torch.optim.swa_utils.AveragedModel(nn.Linear(2, 2))
    book.save("torch", "AveragedModel", averaged.module)
    book.save("torch", "GradScaler", torch.cuda.amp.GradScaler(enabled=False).state_dict() | {"f": collections.OrderedDict()})


def quantized(book, _):
    import torch.ao.quantization as ao
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    dynamic = ao.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    book.save("torch", "dynamically quantized module", dynamic.state_dict())
    static = nn.Sequential(ao.QuantStub(), nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), ao.DeQuantStub()).train()
    static.qconfig = ao.get_default_qat_qconfig("fbgemm")
    prepared = ao.prepare_qat(static)
    book.save("torch", "quantization-aware training", {"state": prepared.state_dict(), "parts": picklable(list(prepared.modules()))})
    book.save("torch", "qconfigs", picklable([ao.get_default_qconfig("fbgemm"), ao.default_dynamic_qconfig,
                                              ao.float16_dynamic_qconfig, ao.default_observer, ao.default_weight_observer]))


def parametrized(book, _):
    import torch.nn.utils.parametrizations as parametrizations
    layer = nn.Linear(2, 2)
    layer.weight.requires_grad_(True)
    parametrizations.orthogonal(layer)
    book.save("torch", "parametrized module, state", {"state": layer.state_dict(), "args": argparse.Namespace(lr=1)})


def datasets(book, _):
    from torch.utils import data
    dataset = data.TensorDataset(torch.ones(4, 2))
    book.save("torch", "data set, sampler, loader", {
        "subset": data.Subset(dataset, [0]), "sampler": data.RandomSampler(dataset), "loader": data.DataLoader(dataset),
        "concat": data.ConcatDataset([dataset])})
    book.save("torch", "distributions", [torch.distributions.Normal(0.0, 1.0), torch.distributions.Categorical(torch.ones(2))])


def metadata(book, work):
    import torch.distributed.checkpoint as dcp
    folder = work / "dcp"
    try:
        dcp.save({"w": torch.ones(2), "n": 1, "o": {"s": [1, "x"]}}, checkpoint_id=str(folder), no_dist=True)
    except TypeError:
        return
    book.file("torch", "DCP .metadata", folder / ".metadata")


def compiled(book, _):
    if hasattr(torch, "compile"):
        book.save("torch", "torch.compile of a module", torch.compile(nn.Linear(2, 2)))


def numpies(book, _):
    state = numpy.random.RandomState(0)
    values = {
        "global": numpy.random.get_state(), "scalar": numpy.float64(1), "int": numpy.int64(1), "bool": numpy.bool_(True),
        "array": numpy.ones(2), "object": numpy.array([None, "x"], dtype=object), "text": numpy.array(["a", "b"]),
        "date": numpy.datetime64("2024-01-01"), "delta": numpy.timedelta64(1, "D"), "fortran": numpy.asfortranarray(numpy.ones((2, 3))),
        "struct": numpy.zeros(2, dtype=[("a", "f4"), ("b", "i8")]), "dtype": numpy.dtype("f4"), "type": numpy.float32,
        "masked": numpy.ma.array([1, 2], mask=[0, 1]), "matrix": numpy.matrix([[1]]), "rec": numpy.rec.array([(1, 2.0)]),
        "complex": numpy.complex64(1j), "str": numpy.str_("x"), "ufunc": numpy.exp, "function": numpy.mean,
        "poly": numpy.poly1d([1, 2]), "finfo": numpy.float16(1),
    }
    book.save("numpy", "values in a checkpoint", values)
    book.save("numpy", "random states", [state, state.get_state(), numpy.random.default_rng(0), numpy.random.PCG64(1),
                                         numpy.random.SeedSequence(0), numpy.random.Generator(numpy.random.Philox(1))])
    for protocol in (0, 2, 4, 5):
        book.dump("numpy", f"values, protocol {protocol}", picklable(values, protocol), protocol=protocol)


def pythons(book, _):
    Point = collections.namedtuple("Point", "x y")
    Point.__module__, globals()["Point"] = __name__, Point
    values = {
        "path": [pathlib.Path("a"), pathlib.PurePosixPath("b"), pathlib.PureWindowsPath("c")],
        "time": [datetime.datetime(2024, 1, 1), datetime.date(2024, 1, 1), datetime.time(1), datetime.timedelta(1),
                 datetime.timezone.utc],
        "numbers": [decimal.Decimal("1.5"), 1j, __import__("fractions").Fraction(1, 2)],
        "collections": [collections.deque([1]), collections.Counter("ab"), collections.defaultdict(list, a=[1]), collections.ChainMap({}),
                        collections.UserDict(), collections.UserList(), collections.defaultdict(functools.partial(list))],
        "enum": [Colour.RED, Level.A, inspect.Parameter.KEYWORD_ONLY], "config": Config([1]),
        "logger": [logging.getLogger("x"), logging.INFO], "uuid": uuid.UUID(int=1), "namespace": [types.SimpleNamespace(a=1), argparse.Namespace(b=2)],
        "types": [int, type(None), type(...), type(NotImplemented), list[int], typing.List[int], typing.Optional[int], typing.Any,
                  typing.Union[int, str], typing.Callable, typing.Tuple, dict, types.SimpleNamespace],
        "union": int | str, "none": [None, ..., NotImplemented], "regex": re.compile("a"), "random": [random.Random(0)],
        "iterators": [iter([1]), iter((1,)), reversed([1]), enumerate([1]), zip([1]), range(3), slice(1)],
        "errors": [ValueError("x"), KeyError("y"), FileNotFoundError(2, "z"), StopIteration()],
        "functions": [print, len, max, sum, sorted, str.lower, dict.fromkeys, "x".join, operator.add, isinstance],
        "sets": [{1}, frozenset({1}), bytearray(b"x"), b"\xff"], "buffer": io.BytesIO(b"x"), "text": io.StringIO("x"),
        "point": Point(1, 2), "signature": inspect.signature(halve), "nested": Outer.Nested, "bound": Outer().method,
        "classmethod": Outer.build, "getters": [operator.itemgetter(1, 2), operator.attrgetter("a.b")],
        "partial": functools.partial(functools.partial(halve), 2), "array": __import__("array").array("f", [1.0]),
        "zone": __import__("zoneinfo").ZoneInfo("UTC"), "struct_time": __import__("time").gmtime(0), "ip": __import__("ipaddress").ip_address("::1"),
        "mapping": types.MappingProxyType, "string": __import__("string").Template("$x"), "hashlib": __import__("calendar").TextCalendar(),
        "counter": __import__("itertools").count(1), "cycle": __import__("itertools").repeat(1, 2),
    }
    for protocol in (0, 1, 2, 3, 4, 5):
        book.dump("python", f"standard library, protocol {protocol}", picklable(values, protocol), f"python_{protocol}" if protocol in (0, 2, 4) else None,
                  protocol=protocol)


CASES = [modules, tensors, training, quantized, parametrized, datasets, metadata, compiled, numpies, pythons]
