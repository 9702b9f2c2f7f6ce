"""Modules and classes that the fixture scripts save, under torch 2.15 and 1.13.1 alike; needs nothing but torch."""

import gc
import pathlib
import sys
import threading
import types
from collections import OrderedDict
from typing import Dict, List, Optional, Tuple

import torch
from torch import nn


def settle(module):
    """Give the parameters and buffers of a module values that do not depend on the version of torch."""
    with torch.no_grad():
        for i, tensor in enumerate([*module.parameters(), *module.buffers()]):
            values = torch.arange(tensor.numel(), dtype=torch.float64) * 0.25 + i - 1
            tensor.copy_(values.to(tensor.dtype).reshape(tensor.shape))
    return module.eval()


# --- modules for TorchScript and torch.export ---------------------------------------------------------------


class Block(nn.Module):
    """A convolution with a batch norm."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.bn(self.conv(x)))


class Net(nn.Module):
    """Nested modules, a tied and a frozen parameter, and every kind of tensor that is no parameter."""

    names: List[str]
    table: Dict[str, torch.Tensor]
    missing: Optional[torch.Tensor]

    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Block(2, 3), Block(3, 4))
        self.model = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4, bias=False)
        self.tied.weight = self.model.weight
        self.frozen = nn.Parameter(torch.zeros(4), requires_grad=False)
        self.register_buffer("halves", torch.zeros(4, dtype=torch.float16))
        self.register_buffer("steps", torch.zeros(2, 3, dtype=torch.int64).t())
        self.register_buffer("brain", torch.zeros(3, dtype=torch.bfloat16))
        self.register_buffer("scalar", torch.tensor(0.0, dtype=torch.float64))
        self.register_buffer("transient", torch.zeros(2), persistent=False)
        self.register_buffer("absent", None)
        self.plain = torch.ones(3)
        self.free = torch.ones(2, requires_grad=True)
        self.several = [torch.ones(1), torch.ones(2)]
        self.table = {"a": torch.ones(1)}
        self.names = ["one", "two"]
        self.missing = None
        self.label = "a label"
        self.rates = [0.5, 0.25]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(x).mean([2, 3])
        x = self.tied(self.model(x)) + self.frozen + self.halves.float() + self.scalar.float()
        x = x + self.transient.sum() + self.plain.sum() + self.free.sum() + self.several[0] + self.table["a"]
        if self.missing is not None:
            x = x + self.rates[0]
        return x + self.steps.sum() + self.brain.float().sum()


class Traced(nn.Module):
    """What tracing can follow: nested modules, a tied parameter and buffers."""

    def __init__(self):
        super().__init__()
        self.block = Block(2, 3)
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.register_buffer("halves", torch.zeros(3, dtype=torch.float16))
        self.register_buffer("transient", torch.zeros(3), persistent=False)
        self.plain = torch.ones(3)

    def forward(self, x):
        x = self.block(x).mean([2, 3])
        return self.second(self.first(x)) + self.halves.float() + self.transient + self.plain


class Packed(nn.Module):
    """A module that packs its state itself."""

    def __init__(self):
        super().__init__()
        self.weight = torch.ones(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.weight

    @torch.jit.export
    def __getstate__(self):
        return self.weight * 2, 3, self.training

    @torch.jit.export
    def __setstate__(self, state: Tuple[torch.Tensor, int, bool]):
        self.weight = state[0]
        self.training = state[2]


def example_input():
    """Give an input that both modules accept."""
    return torch.ones(1, 2, 2, 2)


class Exported(nn.Module):
    """A small module for torch.export: tied weights, views of one storage, constants."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(2)
        whole = torch.zeros(10)
        self.register_buffer("part", whole[2:4])
        self.register_buffer("other", whole[5:7])
        self.register_buffer("turned", torch.zeros(3, 2, dtype=torch.int64).t())
        self.register_buffer("brain", torch.zeros(2, dtype=torch.bfloat16))
        self.register_buffer("scalar", torch.tensor(0.0, dtype=torch.float16))
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("empty", torch.zeros(0, 3))
        self.register_buffer("transient", torch.zeros(2), persistent=False)
        self.plain = torch.ones(2)

    def forward(self, x):
        x = self.norm(self.second(self.first(x))) + self.part + self.other
        return x + self.brain.float() + self.transient + self.plain


def exported(module):
    """Export a module, without the stack traces that hold paths."""
    program = torch.export.export(module, (torch.ones(2, 2),))
    for node in program.graph_module.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


# --- whole modules of classes that exist nowhere else -----------------------------------------------------------


def foreign(module, name, base=object):
    """Make a class that a pickle will name as module.name."""
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        path = ".".join(parts[:end])
        sys.modules.setdefault(path, types.ModuleType(path))
    made = type(name, (base,), {"__module__": module})
    setattr(sys.modules[module], name, made)
    return made


def whole_model():
    """Make a module of foreign classes with all that a state dict keeps and leaves out."""
    part_class = foreign("their_project.layers", "Part", nn.Module)
    model_class = foreign("their_project.models", "Model", nn.Module)
    part = part_class()
    part.conv, part.bn, part.act = nn.Conv2d(2, 3, 1, bias=False), nn.BatchNorm2d(3), nn.ReLU()
    part.bare = nn.BatchNorm1d(2, affine=False, track_running_stats=False)
    model = model_class()
    model.model = nn.Sequential(OrderedDict([("stem", part), ("head", nn.Linear(3, 2, bias=False))]))
    model.state_dict_ = nn.Linear(2, 2)
    model.epoch = nn.Linear(1, 1)
    model.again = part
    model.layers = nn.ModuleList([nn.Linear(2, 2), nn.Dropout(0.1), nn.Linear(2, 1)])
    model.named = nn.ModuleDict({"key": nn.LayerNorm(2), "optimizer": nn.Embedding(3, 2)})
    model.params = nn.ParameterList([nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1, 2))])
    model.lookup = nn.ParameterDict({"left": nn.Parameter(torch.zeros(2)), "right": nn.Parameter(torch.zeros(3))})
    model.missing, model.config = None, {"depth": 2, "names": ["a", "b"]}
    model.own = nn.Parameter(torch.zeros(2, 2), requires_grad=False)
    model.tied = nn.Linear(2, 2)
    model.tied.weight = model.own
    model.register_parameter("unset", None)
    model.register_buffer("halves", torch.zeros(3, dtype=torch.float16))
    model.register_buffer("transient", torch.zeros(2), persistent=False)
    model.register_buffer("absent", None)
    model.plain = torch.ones(4)
    model.several = [torch.ones(1)]
    return settle(model)


def sequential_model():
    """Make an nn.Sequential of torch's own classes."""
    return settle(nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), nn.Sequential(nn.Linear(2, 2))))


def weight_norm_model():
    """Make a module with weight normalization by hooks, which keeps the computed weight as a plain attribute."""
    return torch.nn.utils.weight_norm(settle(nn.Linear(2, 3)))


def detection_checkpoint():
    """Make a training checkpoint that holds a whole module of half precision, as ultralytics does."""
    model = foreign("ultralytics.nn.tasks", "DetectionModel", nn.Module)()
    conv = foreign("ultralytics.nn.modules.conv", "Conv", nn.Module)()
    conv.conv, conv.bn, conv.act = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.SiLU(inplace=True)
    conv.i, conv.f, conv.type = 0, -1, "ultralytics.nn.modules.conv.Conv"
    model.model = nn.Sequential(conv, nn.Upsample(None, 2, "nearest"))
    model.yaml, model.stride, model.names = {"nc": 2}, torch.tensor([8.0, 16.0]), {0: "cat", 1: "dog"}
    settle(model).half()
    state = {0: {"step": torch.tensor(7.0), "exp_avg": torch.ones(2)}}
    return {
        "epoch": 3, "best_fitness": None, "model": model, "ema": None, "updates": None,
        "optimizer": {"state": state, "param_groups": [{"lr": 0.01, "params": [0]}]}, "train_args": {"batch": 16},
        "date": "2024-01-01T00:00:00", "version": "8.2.0",
    }


# --- keeping the machine out of the files --------------------------------------------------------------------


def short(path):
    """Cut a source path down to what is the same on every machine."""
    for root in ("site-packages/", f"python3.{sys.version_info[1]}/"):
        if root in path:
            return path.split(root)[-1]
    return pathlib.PurePath(path).name


def hide_paths():
    """Make torch see short source paths, and the first lines alone of the sources that a legacy file quotes."""
    original = torch._sources.get_source_lines_and_file

    def shortened(*args):
        lines, number, path = original(*args)
        return lines, number, short(path)

    def quoted(*args):
        lines, number, path = shortened(*args)
        return lines[:2], number, path

    for module in list(sys.modules.values()):
        if getattr(module, "get_source_lines_and_file", None) is original:
            module.get_source_lines_and_file = quoted if module is torch.serialization else shortened
    for function in gc.get_objects():
        if isinstance(function, types.FunctionType):
            function.__code__ = shortened_code(function.__code__)


def shortened_code(code):
    """Give the code with short source paths, nested functions included."""
    inner = tuple(shortened_code(item) if isinstance(item, types.CodeType) else item for item in code.co_consts)
    return code.replace(co_filename=short(code.co_filename), co_consts=inner)


def without_caller(function, *args):
    """Call a function in a thread of its own, so that no stack trace holds the path of the script."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function(*args)))
    thread.start()
    thread.join()
    return results[0]


def traced(module):
    """Trace a module."""
    return without_caller(torch.jit.trace, module, example_input())
