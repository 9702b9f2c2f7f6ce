#!/usr/bin/env python3
"""Save DTensors on meshes of one and two processes; fixtures_values.py runs this under two versions of torch.

    python fixtures_dtensor.py FOLDER SUFFIX
"""

import os
import sys
import tempfile

import torch
import torch.multiprocessing
from torch.distributed.device_mesh import init_device_mesh

try:
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
except ImportError:
    from torch.distributed._tensor import DTensor, Partial, Replicate, Shard


def whole():
    """Give the tensor that every process holds or shares."""
    return torch.arange(12, dtype=torch.float32).reshape(4, 3) + 1


def on_one(mesh, save):
    """Save on a mesh of one process, where every piece is the whole."""
    shard = DTensor.from_local(whole(), mesh, [Shard(0)])
    replica = DTensor.from_local(whole().t().half(), mesh, [Replicate()])
    save("dtensor_one", {
        "shard": shard, "replica": replica, "parameter": torch.nn.Parameter(shard), "plain": whole()})


def on_two(mesh, save):
    """Save on a mesh of two processes."""
    half = whole()[:2] if mesh.get_rank() == 0 else whole()[2:]
    replica = DTensor.from_local(whole(), mesh, [Replicate()], run_check=False)
    shard = DTensor.from_local(half, mesh, [Shard(0)])
    partial = DTensor.from_local(whole(), mesh, [Partial()])
    save("dtensor_two", {"replica": replica, "plain": whole()})
    save("x_dtensor_shard", {"replica": replica, "bad.part": shard})
    save("x_dtensor_partial", {"replica": replica, "bad.part": partial})
    flat = init_device_mesh("cpu", (2, 1))
    save("dtensor_flat", {"mixed": DTensor.from_local(whole(), flat, [Replicate(), Shard(0)], run_check=False)})


def forget_run(value):
    """Drop the cached hashes and the thread's number, which differ from run to run."""
    for tensor in value.values():
        if isinstance(tensor, DTensor):
            spec = tensor._spec
            spec.__dict__["_hash"] = None
            spec.mesh.__dict__.update({key: None for key in ("_hash", "_thread_id") if key in spec.mesh.__dict__})


def work(rank, size, store, suffix):
    """Join the other processes and let the first one save."""
    def save(name, value):
        if rank == 0:
            forget_run(value)
            torch.save(value, f"{name}{suffix}.pt")

    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    make = {1: on_one, 2: on_two}[size]
    make(init_device_mesh("cpu", (size,)), save)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def main():
    """Write the files of both meshes into a folder."""
    folder, suffix = sys.argv[1:]
    os.chdir(folder)
    with tempfile.TemporaryDirectory() as stores:
        for size in (1, 2):
            torch.multiprocessing.spawn(work, (size, f"{stores}/{size}", suffix), size)


if __name__ == "__main__":
    main()
