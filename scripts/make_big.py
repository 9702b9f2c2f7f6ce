#!/usr/bin/env python3
"""Write a large checkpoint of one of the layouts that ckpt2st reads, for timing. Needs nothing but Python.

    python3 scripts/make_big.py big.ckpt --gib 4 --dtype f32 --tensor-mib 64 --small 200
    python3 scripts/make_big.py big.bin --layout legacy --gib 2
    python3 scripts/make_big.py folder --layout dcp1 --gib 2
    python3 scripts/make_big.py tiny.ckpt --gib 0 --small 100000
    python3 scripts/make_big.py sd.ckpt --model sd --gib 7.18

Layouts, of which the last five make a folder:

zip       what torch.save writes since 1.6 (the default)
deflated  the same with compressed entries, as after unpacking and zipping again
legacy    the stream that torch.save wrote before 1.6
gzip      the same, compressed at level 1
numpy2    numpy arrays instead of tensors; pickle protocol 2 keeps their data as Latin-1 text in the pickle
numpy5    numpy arrays; protocol 5 keeps their data as bytes in the pickle
shards    four shards and pytorch_model.bin.index.json
dcp0      torch.distributed.checkpoint of two ranks, every tensor cut in its first dimension, Shard(0)
dcp1      the same, matrices cut in their second dimension, Shard(1)
zero2     DeepSpeed ZeRO stage 2 of two ranks, whose weights in f16 come on top of --gib
zero3     DeepSpeed ZeRO stage 3 of two ranks

Models, of which the last three need the layout zip, deflated, legacy or gzip:

flat           matrices of --tensor-mib, and --small vectors before them (the default)
many           vectors of 64 elements
transposed     square matrices of about --tensor-mib, each the transpose of a contiguous one
channels_last  convolutions of 3 x 3 and about --tensor-mib in torch.channels_last
sd             Stable Diffusion 1.5 with averages, as latent-diffusion saves it; narrower below its 7.18 GiB in f32

Single files hold {"state_dict": {name: tensor, ...}}, shards the tensors themselves. Zip entries are aligned to
64 bytes, with data descriptors and correct CRC-32s, and in 64-bit form where sizes or offsets need it. Equal
arguments give equal bytes. Tensors of one model have other bytes in other layouts. The numpy layouts take memory
of up to four times their size while they are made, all others little.

The models are in big_models.py, the writers of the layouts in big_layouts.py, what those are made of in big_parts.py.
"""

import argparse
import pathlib
import sys
import time

from big_layouts import FOLDERS, LAYOUTS, write_file
from big_models import MODELS
from big_parts import DTYPES, Data


def parse_args():
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Write a large checkpoint for timing.")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--layout", choices=LAYOUTS, default="zip", help="see the top of this script (default zip)")
    parser.add_argument("--model", choices=MODELS, default="flat", help="see the top of this script (default flat)")
    parser.add_argument("--gib", type=float, default=4, help="size of all tensors (default 4)")
    parser.add_argument("--dtype", choices=("f32", "f16"), default="f32")
    parser.add_argument("--tensor-mib", type=float, default=64, help="size of a large tensor (default 64)")
    parser.add_argument("--small", type=int, default=0, help="number of small tensors among them (default 0)")
    args = parser.parse_args()
    if args.tensor_mib * (1 << 20) < 4096:
        parser.error("--tensor-mib must be at least 0.004")
    if args.layout.startswith("zero") and args.dtype != "f32":
        parser.error("DeepSpeed keeps its weights in f32")
    if args.model not in ("flat", "many") and args.layout not in ("zip", "deflated", "legacy", "gzip"):
        parser.error(f"the layout {args.layout} has only contiguous tensors of one dtype, so not --model {args.model}")
    return args


def main():
    """Write what the command line asks for."""
    args = parse_args()
    dtype = DTYPES[args.dtype]
    started = time.monotonic()
    sizes = int(args.gib * (1 << 30)), int(args.tensor_mib * (1 << 20)), dtype.size, args.small
    tensors = MODELS[args.model](*sizes)
    if not tensors:
        sys.exit("that is no tensor at all")
    if args.layout in FOLDERS:
        args.out.mkdir()
        FOLDERS[args.layout](args.out, tensors, dtype, Data(dtype))
    else:
        write_file(args.out, args.layout, tensors, dtype, Data(dtype))
    files = [file for file in (args.out, *args.out.rglob("*")) if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    print(f"{args.out}: {size} bytes, {len(tensors)} tensors, {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    main()
