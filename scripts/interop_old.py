#!/usr/bin/env python3
"""Producers: torch 1.13.1, which runs this file in its own environment.

    python interop_old.py FOLDER
"""

import json
import pathlib
import subprocess
import sys

import torch

from interop_case import Case, Skipped, compare, read_tensors, write_tensors
from interop_nets import NETWORKS, values

PYTHON = ""
LEGACY = {"_use_new_zipfile_serialization": False}


def torch_113(folder):
    """Everything that the old torch saved."""
    if not PYTHON:
        raise Skipped("torch 1.13.1 is not installed")
    subprocess.run([PYTHON, __file__, folder], check=True)
    for name, stem, network in json.loads((folder / "made.json").read_text()):
        expected = read_tensors(folder / f"{stem}.expected")
        loaders = {"load_state_dict": loader(network, expected)} if network else {}
        yield Case(f"torch 1.13.1 {name}", folder / f"{stem}.pt", expected, loaders)


def loader(network, expected):
    """Load into a new module of today's torch."""
    def check(folder):
        from interop_consumers import load
        fresh = NETWORKS[network][0]()
        fresh.load_state_dict(load(folder))
        return compare(fresh.state_dict(), expected)
    return check


def write(folder):
    """Save everything with this torch; list it in made.json."""
    made = []

    def add(name, state, save, network=""):
        stem = str(len(made))
        save(folder / f"{stem}.pt")
        write_tensors(folder / f"{stem}.expected", state)
        made.append((name, stem, network))
    for label, options in (("zip", {}), ("legacy stream", LEGACY)):
        for name, (kind, _) in NETWORKS.items():
            model = kind().eval()
            optimizer = torch.optim.Adam(model.parameters())
            state = model.state_dict()
            add(f"{name} state dict, {label}", state, lambda path: torch.save(state, path, **options), name)
            add(f"{name} model, {label}", state, lambda path: torch.save(model, path, **options), name)
            add(f"{name} training, {label}", state, lambda path: torch.save(
                {"state_dict": state, "optimizer": optimizer.state_dict(), "epoch": 1}, path, **options), name)
        made_values = values()
        add(f"tensors of all kinds, {label}", made_values, lambda path: torch.save(made_values, path, **options))
    for name, (kind, inputs) in NETWORKS.items():
        model = kind().eval()
        script = torch.jit.script(model)
        add(f"scripted {name} model", script.state_dict(), lambda path: torch.jit.save(script, path))
        traced = torch.jit.trace(model, inputs, check_trace=False)
        add(f"traced {name} model", traced.state_dict(), lambda path: torch.jit.save(traced, path))
    (folder / "made.json").write_text(json.dumps(made))


PRODUCERS = [torch_113]

if __name__ == "__main__":
    torch.manual_seed(0)
    write(pathlib.Path(sys.argv[1]))
