#!/usr/bin/env python3
"""Compare ckpt2st's casts with torch's, bit for bit, on tens of millions of values.

Needs torch, numpy and safetensors (versions as in make_fixtures.py) and a built ckpt2st:

    python scripts/check_casts.py target/release/ckpt2st

All patterns of float16, bfloat16 and the float8 kinds; for float32 and float64 random bit patterns, every
exponent with mantissas around the rounding boundaries, and normal distributions of several scales. Sizes are
multiples of 64 and torch runs on one thread, since torch gives NaN other bits in its scalar tails.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import safetensors.torch
import torch

TARGETS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
FLOAT8 = [
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2fnuz,
    torch.float8_e8m0fnu,
]


def boundaries():
    """Every sign and exponent of float32 with mantissas at and beside the rounding boundaries."""
    exponents = numpy.arange(512, dtype=numpy.uint32) << 23
    coarse = numpy.arange(1 << 14, dtype=numpy.uint32) << 9
    fine = numpy.arange(4096, dtype=numpy.uint32)
    mantissas = numpy.concatenate([coarse, coarse ^ 0x1000, fine, 0x7FFFFF - fine])
    return (exponents[:, None] | mantissas[None, :]).reshape(-1)


def sources():
    """The tensors to cast, by name."""
    random = numpy.random.default_rng(1)
    patterns = numpy.arange(1 << 16, dtype=numpy.uint16)
    scales = (1e-8, 1e-5, 1.0, 6e4, 1e38)
    tensors = {
        "float32 random": random.integers(0, 2**32, 1 << 24, dtype=numpy.uint32).view(numpy.float32),
        "float32 boundaries": boundaries().view(numpy.float32),
        "float64 random": random.integers(0, 2**64, 1 << 22, dtype=numpy.uint64).view(numpy.float64),
        "float64 normal": numpy.concatenate([random.normal(0, scale, 1 << 20) for scale in scales]),
        "float16 all": patterns.view(numpy.float16),
    }
    tensors = {name: torch.from_numpy(array.copy()) for name, array in tensors.items()}
    tensors["bfloat16 all"] = torch.from_numpy(patterns.view(numpy.int16).copy()).view(torch.bfloat16)
    for dtype in FLOAT8:
        tensors[f"{dtype} all"] = torch.arange(256, dtype=torch.uint8).view(dtype)
    return tensors


def main(program):
    """Convert once for each target type and count the elements whose bits differ."""
    torch.set_num_threads(1)
    tensors = sources()
    different = 0
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "casts.pt"), Path(folder, "casts.safetensors")
        torch.save(tensors, source)
        for name, dtype in TARGETS.items():
            subprocess.run(
                [program, source, "-o", output, "--dtype", name, "--overwrite", "-q", "--no-sync"], check=True
            )
            converted = safetensors.torch.load_file(output)
            bits = {4: torch.int32, 2: torch.int16}[dtype.itemsize]
            for key, tensor in tensors.items():
                count = int((converted[key].view(bits) != tensor.to(dtype).view(bits)).sum())
                print(f"{name}  {key:28} {tensor.numel():>10} values, {count} differ")
                different += count
    return 1 if different else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
