"""The programs that load every result, whatever made it."""

import subprocess

import safetensors.numpy
import safetensors.torch
import torch

from interop_case import Difference, Skipped, compare, write_tensors

NUMPY = {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.float32,
         torch.float64, torch.complex64}


def files(folder):
    """Give the safetensors files of a result."""
    return sorted(folder.glob("*.safetensors"))


def load(folder):
    """Give all tensors of a result as safetensors.torch loads them."""
    return {name: tensor for path in files(folder) for name, tensor in safetensors.torch.load_file(path).items()}


def with_torch(folder, expected, _):
    """safetensors.torch.load_file."""
    return {"safetensors.torch": lambda: compare(load(folder), expected)}


def with_numpy(folder, expected, _):
    """safetensors.numpy.load_file, which gives arrays."""
    def run():
        foreign = {tensor.dtype for tensor in expected.values()} - NUMPY
        if foreign:
            raise Skipped(f"numpy has no {min(map(str, foreign))}")
        arrays = {name: array for path in files(folder) for name, array in safetensors.numpy.load_file(path).items()}
        return compare({name: torch.from_numpy(array) for name, array in arrays.items()}, expected)
    return {"safetensors.numpy": run}


def with_rust(folder, expected, program):
    """The safetensors crate and candle, in one program."""
    stem = folder.parent / "expected"
    write_tensors(stem, expected)
    done = subprocess.run([program, stem, *files(folder)], capture_output=True, text=True, check=False)
    lines = dict(line.split("\t", 1) for line in done.stdout.splitlines())

    def result(name):
        number, _, left_out = lines.get(name, done.stderr).partition(" ")
        if not number.isdigit():
            raise Difference(lines.get(name, done.stderr))
        if left_out:
            return int(number), f"without {left_out}, which {name} does not have"
        return int(number)
    return {name: lambda name=name: result(name) for name in ("safetensors crate", "candle")}


def consumers(folder, expected, program):
    """Give a function for each program, by its name; it gives the number of equal tensors, or that and a remark."""
    runs = {}
    for make in (with_torch, with_numpy, with_rust):
        runs.update(make(folder, expected, program))
    return runs
