#!/usr/bin/env python3
"""Convert a checkpoint with torch and safetensors, as most scripts do: what bench.py compares ckpt2st with.

    venv/bin/python scripts/bench_torch.py model.ckpt model.safetensors --mmap --fp16 --prune-ema
"""

import argparse

import safetensors.torch
import torch


def main():
    """Convert what the command line names."""
    parser = argparse.ArgumentParser(description="Convert a checkpoint with torch and safetensors.")
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--mmap", action="store_true", help="torch.load(mmap=True)")
    parser.add_argument("--fp16", action="store_true", help="cast floating tensors")
    parser.add_argument("--prune-ema", action="store_true", help="leave out model_ema.*")
    args = parser.parse_args()
    state = torch.load(args.input, weights_only=True, mmap=args.mmap)["state_dict"]
    if args.prune_ema:
        state = {name: tensor for name, tensor in state.items() if not name.startswith("model_ema.")}
    if args.fp16:
        state = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    safetensors.torch.save_file(state, args.output, metadata={"format": "pt"})


if __name__ == "__main__":
    main()
