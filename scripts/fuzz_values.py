#!/usr/bin/env python3
"""fuzz_values.py BIN [--seed N] [--files N] [--keep FOLDER] - what BIN writes is what torch loads, or BIN refuses.

Writes random files of torch.save opcode by opcode: tensors, views of shared storages, parameters, numpy arrays, modules
and dicts, and between them what no pickler writes: items, states and appends on tensors, keys that Python takes for the
same, arguments that change later, numbers of odd kinds. Loads each with torch (weights_only=False; nothing is called
but torch's and numpy's rebuild functions) and converts it with BIN. A file counts as wrong when BIN exits with 0 and a
name, dtype, shape or byte differs from what torch has. Needs torch and numpy. The same seed makes the same files.
"""
import argparse
import collections
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import warnings

import numpy
import torch
from values_files import NUMPY, File

TORCH = {
    torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
    torch.complex64: "C64", torch.uint16: "U16", torch.uint32: "U32", torch.uint64: "U64",
}
NO_NAME = "no name: "


def described(x):
    """Dtype, shape and bytes of a tensor or an array, by torch's and numpy's own operators."""
    if isinstance(x, torch.Tensor):
        if x.numel() > 2**20:
            return "more than there is room for"
        x = x.detach().resolve_conj().resolve_neg()
        # A copy has the usual strides, also where there is one element.
        data = torch.empty(x.shape, dtype=x.dtype).copy_(x).reshape(-1)
        return TORCH.get(x.dtype, str(x.dtype)), list(x.shape), bytes(data.view(torch.uint8).numpy())
    x = numpy.asarray(x)
    code = x.dtype.str[1:]
    return NUMPY.get(code, code), list(x.shape), x.astype(x.dtype.newbyteorder("<")).tobytes()


def flattened(x, name, found):
    """Every tensor under its name. Two under one name, or one under what is no name, is an entry that nothing equals.
    A number of numpy counts only under a name."""
    is_number = isinstance(x, numpy.generic)
    if isinstance(x, (torch.Tensor, numpy.ndarray)) or is_number and not any(key.startswith(NO_NAME) for key in name):
        name = ".".join(name)
        found[name] = described(x) if name not in found else "twice"
    elif isinstance(x, torch.nn.Module):
        flattened(dict(x.state_dict()), name, found)
    elif isinstance(x, dict):
        for key, value in x.items():
            plain = key is None or type(key) in (str, int, bool)
            flattened(value, [*name, str(key) if plain else NO_NAME + repr(key)], found)
    elif isinstance(x, (list, tuple)):
        for index, value in enumerate(x):
            flattened(value, [*name, str(index)], found)


def read(path):
    """Every tensor of a safetensors file."""
    raw = path.read_bytes()
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:start])
    header.pop("__metadata__", None)
    spans = {name: tensor["data_offsets"] for name, tensor in header.items()}
    found = {name: (t["dtype"], t["shape"], raw[start + spans[name][0]:start + spans[name][1]])
             for name, t in header.items()}
    # A copy of a bool is 0 or 1 in torch, whatever the byte was.
    return {name: (t, shape, bytes(b > 0 for b in data)) if t == "BOOL" else (t, shape, data)
            for name, (t, shape, data) in found.items()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--keep", help="a folder for the files that are wrong")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    counts, lenient, wrong = collections.Counter(), collections.Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "in").mkdir()
        for seed in range(args.seed, args.seed + args.files):
            File(seed).write(folder / "in" / f"{seed}.pt")
        command = [args.bin, folder / "in", "-o", folder / "out", "--all", "--json", "--no-sync", "-q"]
        ran = subprocess.run(command, capture_output=True, text=True)
        records = {pathlib.Path(r["input"]).stem: r for r in map(json.loads, ran.stdout.splitlines())}
        for seed in range(args.seed, args.seed + args.files):
            path, record = folder / "in" / f"{seed}.pt", records[str(seed)]
            expected = {}
            try:
                flattened(torch.load(path, weights_only=False), [], expected)
            except Exception as error:  # whatever a pickle makes torch raise
                expected = error
            if record["status"] != "converted":
                counts["refused, as torch does" if isinstance(expected, Exception) else "refused"] += 1
            elif isinstance(expected, Exception):
                counts["converted, which torch cannot load"] += 1
                lenient[f"{type(expected).__name__}: {expected}"[:70]] += 1
            elif expected == read(folder / "out" / f"{seed}.safetensors"):
                counts["equal"] += 1
            else:
                wrong.append(seed)
                found = read(folder / "out" / f"{seed}.safetensors")
                names = sorted(n for n in {*expected, *found} if expected.get(n) != found.get(n))
                print(f"seed {seed}: torch has other tensors for {names}")
                for n in names[:2]:
                    print("   torch", expected.get(n), "\n   found", found.get(n))
                if args.keep:
                    pathlib.Path(args.keep).mkdir(parents=True, exist_ok=True)
                    (pathlib.Path(args.keep) / path.name).write_bytes(path.read_bytes())
    for what, n in [*counts.most_common(), *lenient.most_common(20)]:
        print(f"{n:6} {what}")
    print(f"{len(wrong):6} wrong")
    return 1 if wrong or not counts["equal"] else 0


if __name__ == "__main__":
    sys.exit(main())
