"""What one producer gives: a checkpoint, the tensors that it held in memory, and how programs load the result."""

import copy
import dataclasses
import json
import pathlib
from collections.abc import Callable

import torch


class Difference(Exception):
    """A loaded tensor is not the producer's."""


class Skipped(Exception):
    """A loader cannot load what safetensors can hold; the text says what."""


@dataclasses.dataclass
class Case:
    """One conversion, and what is compared after it.

    `expected` are the producer's own tensors, never read from the file. `loaders` are the framework's ways to load the
    result; each gets the folder with it and gives how many tensors it compared. `output` is the result's name in that
    folder; an empty one leaves the name to the program.
    """

    name: str
    source: pathlib.Path
    expected: dict[str, torch.Tensor]
    loaders: dict[str, Callable[[pathlib.Path], int]] = dataclasses.field(default_factory=dict)
    options: tuple[str, ...] = ()
    output: str = "model.safetensors"


def snapshot(state):
    """Copy a state dict, so that later steps of a training change nothing."""
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def half(state):
    """Give a state dict in float16, as `Tensor.half` casts it."""
    return {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


# --- bytes ------------------------------------------------------------------------------------------------


def held(tensor):
    """Give what has to be equal: dtype, shape and bytes."""
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    if plain.is_complex():
        plain = torch.view_as_real(plain).reshape(-1)
    return str(tensor.dtype).replace("torch.", ""), list(tensor.shape), bytes(plain.view(torch.uint8).numpy().data)


def compare(found, expected):
    """Give the number of tensors, all equal bit for bit and none beside them."""
    if found.keys() != expected.keys():
        raise Difference(f"missing {sorted(expected.keys() - found.keys())[:5]}, "
                         f"too many {sorted(found.keys() - expected.keys())[:5]}")
    for name, tensor in expected.items():
        if held(found[name]) != held(tensor):
            raise Difference(f"{name}: {found[name].dtype} {list(found[name].shape)} instead of "
                             f"{tensor.dtype} {list(tensor.shape)}, or other values")
    return len(expected)


# --- outputs ----------------------------------------------------------------------------------------------
# Outputs are compared bit for bit. This holds on every machine because both sides run in one process
# with one thread and deterministic algorithms (interop.py), and because `settled` puts their tensors
# into row order at aligned addresses: kernels are chosen by strides and addresses, and another kernel
# can change the last bit. Buffers that the state dict lacks must be built alike on both sides, so a
# reference is never made with `model.half()`, which casts them too.


def settled(model):
    """Switch a module to evaluation, with each tensor in row order and in memory of its own."""
    for tensor in [*model.parameters(), *model.buffers()]:
        tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
    return model.eval()


def run(model, *inputs, **named):
    """Run a settled copy without gradients. The module itself keeps its strides, which are saved."""
    with torch.no_grad():
        return settled(copy.deepcopy(model))(*inputs, **named)


def compare_outputs(left, right):
    """Return the number of tensors in two outputs of a model, all equal bit for bit."""
    left, right = tensors_in(left), tensors_in(right)
    if not (any(map(torch.numel, right)) and all(tensor.isfinite().all() for tensor in right)):
        raise Difference("the outputs are empty or not finite, so they show nothing")
    return compare(dict(enumerate(left)), dict(enumerate(right)))


def tensors_in(value):
    """Give the tensors in what a model returned."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in tensors_in(item)]
    return []


# --- tensors for other programs ---------------------------------------------------------------------------


def write_tensors(stem, tensors):
    """Write tensors as STEM.json, which says where each lies, and STEM.bin."""
    index, end = {}, 0
    with open(f"{stem}.bin", "wb") as data:
        for name, tensor in tensors.items():
            dtype, shape, content = held(tensor)
            index[name] = (dtype, shape, end, end + len(content))
            end += data.write(content)
    pathlib.Path(f"{stem}.json").write_text(json.dumps(index))


def read_tensors(stem):
    """Read what write_tensors wrote."""
    data, tensors = pathlib.Path(f"{stem}.bin").read_bytes(), {}
    for name, (dtype, shape, begin, end) in json.loads(pathlib.Path(f"{stem}.json").read_text()).items():
        content = torch.frombuffer(bytearray(data[begin:end]), dtype=torch.uint8) if end > begin else torch.empty(0)
        tensors[name] = content.view(getattr(torch, dtype)).reshape(shape)
    return tensors
