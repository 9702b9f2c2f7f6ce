#!/usr/bin/env python3
"""Compare ckpt2st's casts with torch's, bit for bit, and what it reports of them, on tens of millions of values.

Needs torch, numpy and safetensors (versions as in make_fixtures.py) and a built ckpt2st:

    python scripts/check_casts.py target/release/ckpt2st

All patterns of float16, bfloat16 and the float8 kinds; for float32 and float64 random bit patterns, every
exponent with mantissas around the rounding boundaries, and normal distributions of several scales. Each with
--on-overflow warn and clamp. Sizes are multiples of 64 and torch runs on one thread, since torch gives NaN other
bits in its scalar tails.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import safetensors.torch
import torch

TARGETS = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8-e4m3": torch.float8_e4m3fn,
    "fp8-e5m2": torch.float8_e5m2,
}
FLOAT8 = [
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2fnuz,
    torch.float8_e8m0fnu,
]
BITS = {4: torch.int32, 2: torch.int16, 1: torch.uint8}


def boundaries():
    """Every sign and exponent of float32 with mantissas at and beside the rounding boundaries."""
    exponents = numpy.arange(512, dtype=numpy.uint32) << 23
    coarse = numpy.arange(1 << 14, dtype=numpy.uint32) << 9
    fine = numpy.arange(4096, dtype=numpy.uint32)
    mantissas = numpy.concatenate([coarse, coarse ^ 0x1000, fine, 0x7FFFFF - fine])
    # Ties of every mantissa length, and what lies directly beside them.
    bits = numpy.arange(23)
    ties = numpy.concatenate([(1 << bits) - 1, 1 << bits, (1 << bits) + 1, 0x7FFFFF ^ ((1 << bits) - 1)])
    odd = (numpy.arange(16, dtype=numpy.uint32)[:, None] << 19 | ties[None, :].astype(numpy.uint32)) & 0x7FFFFF
    mantissas = numpy.concatenate([mantissas, odd.reshape(-1)])
    return (exponents[:, None] | mantissas[None, :]).reshape(-1)


@numpy.errstate(over="ignore", invalid="ignore")
def sources():
    """The tensors to cast, by name."""
    random = numpy.random.default_rng(1)
    patterns = numpy.arange(1 << 16, dtype=numpy.uint16)
    scales = (1e-8, 1e-5, 1.0, 6e4, 1e38)
    limits = numpy.array([torch.finfo(dtype).max for dtype in TARGETS.values()])
    beside = numpy.concatenate([limits * (1 + step * 2.0**-exponent) for step in (-1, 0, 1) for exponent in range(1, 53)])
    edges = boundaries().view(numpy.float32)
    wide = edges.astype(numpy.float64)
    tensors = {
        "float32 random": random.integers(0, 2**32, 1 << 24, dtype=numpy.uint32).view(numpy.float32),
        "float32 boundaries": edges,
        "float64 random": random.integers(0, 2**64, 1 << 22, dtype=numpy.uint64).view(numpy.float64),
        "float64 normal": numpy.concatenate([random.normal(0, scale, 1 << 20) for scale in scales]),
        "float64 beside float32": (wide.view(numpy.uint64) + random.integers(-1, 2, len(wide))).view(numpy.float64),
        "float64 beside the limits": numpy.resize(numpy.concatenate([beside, -beside]), 1 << 14),
        "float16 all": patterns.view(numpy.float16),
    }
    tensors["float32 beside the limits"] = tensors["float64 beside the limits"].astype(numpy.float32)
    # A tensor each for what makes up the statistics, so that one case cannot hide another.
    for scale in (1e-9, 1e-6, 1e-3, 1.0, 300.0, 4e4):
        tensors[f"float32 normal {scale}"] = random.normal(0, scale, 1 << 16).astype(numpy.float32)
        tensors[f"float16 normal {scale}"] = random.normal(0, scale, 1 << 16).astype(numpy.float16)
        tensors[f"float64 normal {scale}"] = random.normal(0, scale, 1 << 16)
    tensors = {name: torch.from_numpy(array.copy()) for name, array in tensors.items()}
    tensors["bfloat16 all"] = torch.from_numpy(patterns.view(numpy.int16).copy()).view(torch.bfloat16)
    for dtype in FLOAT8:
        tensors[f"{dtype} all"] = torch.arange(256, dtype=torch.uint8).view(dtype)
    return tensors


def cast(tensor, dtype, clamp):
    """What torch makes of a tensor: the result, and how many values are beyond the range."""
    limit = torch.finfo(dtype).max
    # torch would round the limit of float16 to a bfloat16 beyond it.
    exact = tensor if tensor.dtype == torch.float64 else tensor.float()
    beyond = exact.isfinite() & (exact.abs() > limit)
    clamped = torch.where(exact.isfinite(), exact.clamp(-limit, limit), exact)
    if clamp and beyond.any():
        # NaN bits depend on the source's dtype, and none of them is clamped.
        result = torch.where(beyond, clamped.to(dtype).float(), tensor.to(dtype).float()).to(dtype)
        bits = BITS[dtype.itemsize]
        result = torch.where(beyond, result.view(bits), tensor.to(dtype).view(bits)).view(dtype)
    else:
        result = tensor.to(dtype)
    return result, int(beyond.sum())


def statistics(tensor, result, beyond, clamp):
    """What ckpt2st has to report of that cast."""
    before = tensor if tensor.dtype == torch.float64 else tensor.float()
    after = result.to(before.dtype)
    both = before.isfinite() & after.isfinite()
    error = (before - after).abs()[both]
    # Infinite values become the largest number there.
    held = int((before.isinf() & after.isfinite()).sum())
    return {
        "infinite": int((before.isfinite() & ~after.isfinite()).sum()),
        "zeroed": int((before.isfinite() & (before != 0) & (after == 0)).sum()),
        "clamped": beyond + held if clamp or result.dtype == torch.float8_e4m3fn else 0,
        "max_error": float(error.max()) if len(error) else 0.0,
    }


def main(program):
    """Convert once for each target type and count the elements whose bits differ."""
    torch.set_num_threads(1)
    tensors = sources()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "casts.pt"), Path(folder, "casts.safetensors")
        torch.save(tensors, source)
        for name, dtype in TARGETS.items():
            for overflow in ("warn", "clamp"):
                options = ["--dtype", name, "--on-overflow", overflow, "--json", "--overwrite", "-q", "--no-sync"]
                command = [program, source, "-o", output, *options]
                said = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
                reports = {report["name"]: report for report in json.loads(said)["casts"]}
                converted = safetensors.torch.load_file(output)
                bits = BITS[dtype.itemsize]
                for key, tensor in tensors.items():
                    result, beyond = cast(tensor, dtype, overflow == "clamp")
                    count = int((converted[key].view(bits) != result.view(bits)).sum())
                    line = f"{name:8} {overflow:5}  {key:28} {tensor.numel():>10} values, {count} differ"
                    if tensor.dtype != dtype:
                        expected = statistics(tensor, result, beyond, overflow == "clamp")
                        actual = {field: reports[key][field] for field in expected}
                        if actual != expected:
                            wrong += 1
                            line += f"; reported {actual} instead of {expected}"
                    print(line)
                    wrong += count
    return 1 if wrong else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
