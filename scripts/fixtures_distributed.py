#!/usr/bin/env python3
"""Write fixtures/distributed/: folders that torch.distributed.checkpoint saved, and sharded PyTorch checkpoints.

    python3.11 -m venv venv
    venv/bin/pip install torch==2.15.0 numpy==2.4.6 safetensors==0.8.0 zstandard==0.25.0 huggingface_hub==2.4.0
    venv/bin/python scripts/fixtures_distributed.py

Running it twice gives the same bytes. Reference outputs are what torch.distributed.checkpoint itself reads from these
folders, written by safetensors; never ckpt2st's.
"""

import json
import logging
import os
import tempfile
import warnings

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as multiprocessing
from torch.distributed.checkpoint import FileSystemWriter, HuggingFaceStorageWriter, filesystem
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.state_dict import get_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from fixture_book import (
    FIXTURES, Book, adam_state, cast, count, flatten, from_bits, network, normal, raw_bytes, small_weights,
)
from fixture_run import PINNED as BASE, commands, finish, start
from cases_distributed_damage import damage_cases
from cases_distributed_sharded import sharded_cases

FOLDER = FIXTURES / "distributed"
PINNED = {**BASE, "zstandard": "0.25.0", "huggingface_hub": "2.4.0"}


# --- saving and loading -----------------------------------------------------------------------------------


def settle():
    """Replace what differs between runs: the save id, and the order in which writing threads finish."""
    filesystem._generate_uuid = lambda: "00000000-0000-4000-8000-000000000000"

    class Inline:
        """A thread that runs to its end when it is started."""

        def __init__(self, target, args):
            self.run = lambda: target(*args)

        def start(self):
            """Run now."""
            self.run()

        def join(self):
            """Nothing is left to wait for."""

    filesystem.threading = type("threading", (), {"Thread": Inline})


def save(book, folder, about, value, planner=None, writer=FileSystemWriter, **options):
    """Save a value from this process alone; the relative path keeps this machine out of .metadata."""
    dcp.save(value, storage_writer=writer(folder, **options), planner=planner, no_dist=True)
    book.about[f"{folder}/"] = about


def load(folder):
    """Give what torch reads from a checkpoint folder."""
    with tempfile.NamedTemporaryFile() as made:
        dcp_to_torch_save(folder, made.name)
        return torch.load(made.name, weights_only=False)


def check_same(found, wanted):
    """Make sure that torch reads from the folder what was saved into it."""
    found, wanted = flatten(found), flatten(wanted)
    assert found.keys() == wanted.keys(), (found.keys(), wanted.keys())
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape, name
        assert raw_bytes(found[name]) == raw_bytes(tensor.detach()), name


# --- one process ------------------------------------------------------------------------------------------


def model_and_optimizer(book):
    """The usual checkpoint: a model, its optimizer and the epoch."""
    shapes = [(4, 3), (4,)]
    value = {
        "model": {"layer.weight": normal(4, 3), "layer.bias": normal(4, seed=1), "steps": torch.tensor(17)},
        "optimizer": adam_state(shapes), "epoch": 3, "args": [1, 2, "x"],
    }
    save(book, "training", "model, a real Adam state, an epoch, a list without tensors; one process", value)
    loaded = load("training")
    check_same(loaded, value)
    model = loaded["model"]
    book.expect("the model is unwrapped", "training", model)
    book.expect("every tensor under its full name", "training", flatten(loaded), "training.all.safetensors", ["--all"])
    book.expect("a named sub-tree", "training", flatten(loaded["optimizer"]["state"]), "training.state.safetensors",
                ["--root", "optimizer.state"])
    book.expect("the model by its path", "training", model, args=["--root", "model"])
    book.expect("a pattern on the names", "training", {"layer.bias": model["layer.bias"]}, "training.bias.safetensors",
                ["--include", "*.bias"])
    book.expect("a cast of a folder", "training", cast(model, "bf16"), "training.bf16.safetensors",
                ["--dtype", "bf16"])


def other_shapes(book):
    """State dicts that are flat, nested, wrapped in no planner data, or hold tensors in a pickled value."""
    save(book, "flat", "model.state_dict() saved directly", network().state_dict())
    book.expect("a flat state dict", "flat", load("flat"))
    nested = {
        "net": small_weights(), "levels": {0: {"scale": normal(2, seed=7)}, 1: {"scale": normal(2, seed=8)}},
        "history": [normal(2, seed=9), 5, normal(1, seed=10)], "a.b": {"c.d": normal(1, seed=11)},
    }
    save(book, "nested", "mappings, int keys, a list, keys with dots, several trees", nested)
    check_same(load("nested"), nested)
    book.expect("several trees keep their names", "nested", flatten(load("nested")))
    book.expect("keys that hold dots are found by path", "nested", {"c.d": nested["a.b"]["c.d"]},
                "nested.dots.safetensors", ["--root", "a.b"])
    save(book, "unflattened", "planner_data is None: DefaultSavePlanner(flatten_state_dict=False)", small_weights(3),
         DefaultSavePlanner(flatten_state_dict=False))
    book.expect("a checkpoint without planner data", "unflattened", load("unflattened"))
    objects = {"weight": normal(2, 2), "pair": (normal(2, seed=1), normal(3, seed=2)), "note": "text"}
    save(book, "objects", "a tuple of tensors, which is saved as one pickled value", objects)
    check_same(load("objects"), objects)
    book.expect("tensors inside a pickled value", "objects", flatten(load("objects")), args=["--all"])
    module = torch.nn.Linear(2, 2)
    module.load_state_dict({"weight": normal(2, 2), "bias": normal(2, seed=1)})
    save(book, "module", "a module below the top, which is saved as one pickled value",
         {"parts": {"inner": module}, "epoch": torch.tensor(3)})
    weights = load("module")["parts"]["inner"].state_dict()
    book.expect("a module inside a pickled value", "module", {f"parts.inner.{name}": t for name, t in weights.items()})


def tensors_of_all_kinds():
    """Give tensors of many dtypes and strides."""
    big = count(6, 8)
    tensors = {
        "strided": big[1:5, 2:4].t(), "expanded": torch.tensor([[1.0], [2.0]]).expand(2, 3), "part": big[2],
        "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "mask": torch.tensor([True, False, True]),
        "complex": torch.complex(normal(2), normal(2, seed=1)), "parameter": torch.nn.Parameter(normal(2, 2, seed=2)),
        "channels_last": count(2, 3, 2, 2).to(memory_format=torch.channels_last),
        "float8": from_bits([1, 2, 3], torch.float8_e4m3fn), "uint16": torch.tensor([1, 65535], dtype=torch.uint16),
    }
    for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
                  torch.uint8):
        tensors[str(dtype).split(".")[1]] = (normal(3, seed=3) * 10).abs().to(dtype)
    return tensors


def layouts(book):
    """The same tensors in one file, in two files and in a file each."""
    tensors = tensors_of_all_kinds()
    save(book, "dtypes", "many dtypes and strides, all chunks in one file", tensors)
    check_same(load("dtypes"), tensors)
    book.expect("many dtypes and strides", "dtypes", load("dtypes"))
    value = {"weight": normal(3, 4), "bias": normal(3, seed=1), "table": normal(2, 2, seed=2), "note": "text"}
    save(book, "two_threads", "FileSystemWriter(thread_count=2)", value, thread_count=2)
    save(book, "file_each", "FileSystemWriter(thread_count=2, single_file_per_rank=False)", value, thread_count=2,
         single_file_per_rank=False)
    for folder in ("two_threads", "file_each"):
        check_same(load(folder), value)
        book.expect(f"the layout of {folder}", folder, flatten(load(folder)), "two_threads.safetensors")


# --- two processes ----------------------------------------------------------------------------------------


def sharded_values():
    """Give whole tensors with the placement that each gets."""
    return {
        "even": (normal(4, 3), Shard(0)), "uneven": (normal(5, 2, seed=1), Shard(0)),
        "columns": (normal(3, 5, seed=2), Shard(1)), "middle": (count(2, 4, 3), Shard(1)),
        "one_row": (normal(1, 4, seed=3), Shard(0)), "copied": (normal(2, 2, seed=4), Replicate()),
        "brain": (normal(5, 3, seed=5, dtype=torch.bfloat16), Shard(1)),
        "ids": (torch.tensor([7, 2**40, -3]), Shard(0)), "mask": (torch.tensor([True, False, True]), Shard(0)),
        "scalar": (torch.tensor(0.5), Replicate()), "empty": (torch.zeros(0, 2), Shard(0)),
    }


def save_sharded(rank, folder):
    """Save DTensors and a plain tensor that both processes hold."""
    mesh = init_device_mesh("cpu", (2,))
    value = {name: distribute_tensor(whole, mesh, [placement]) for name, (whole, placement) in sharded_values().items()}
    dcp.save({"model": {**value, "plain": count(3)}, "epoch": 4}, checkpoint_id=folder)


def save_tiny(rank, folder):
    """Save the two tensors that the damaged folders are made of."""
    mesh = init_device_mesh("cpu", (2,))
    dcp.save({"weight": distribute_tensor(normal(4, 2), mesh, [Shard(0)]), "bias": normal(3, seed=1)},
             checkpoint_id=folder)


def save_alone(rank, folder):
    """Save without talking to other processes: each writes metadata of its own."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    value = {"weight": distribute_tensor(normal(4, 2), mesh, [Shard(0)]), "bias": normal(3, seed=1)}
    dcp.save(value, checkpoint_id=folder, use_collectives=False)


def save_grid(rank, folder):
    """Save a matrix in four tiles, and a tensor that is sharded over one direction of the mesh."""
    mesh = init_device_mesh("cpu", (2, 2))
    value = {
        "tiles": distribute_tensor(count(5, 7), mesh, [Shard(0), Shard(1)]),
        "half": distribute_tensor(count(3, 4), mesh, [Replicate(), Shard(0)]),
        "twice": distribute_tensor(count(10, 2), mesh, [Shard(0), Shard(0)]),
    }
    dcp.save(value, checkpoint_id=folder)


def fsdp_model():
    """Make the model that FSDP shards."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.LayerNorm(5), torch.nn.Linear(5, 1, bias=False))
    with torch.no_grad():
        for seed, tensor in enumerate(model.state_dict().values()):
            tensor.copy_(normal(*tensor.shape, seed=seed))
    return model


def save_fsdp(rank, folder):
    """Train a model under FSDP2 for a step and save it with its optimizer."""
    mesh = init_device_mesh("cpu", (2,))
    model = fsdp_model()
    for layer in model:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model(normal(2, 3, seed=rank)).sum().backward()
    optimizer.step()
    model_state, optimizer_state = get_state_dict(model, optimizer)
    dcp.save({"model": model_state, "optim": optimizer_state}, checkpoint_id=folder)
    whole = {name: tensor.full_tensor() for name, tensor in model_state.items()}
    if rank == 0:
        torch.save(whole, "whole.pt")


def process(rank, work, folder, size, store):
    """Join the other processes, work and leave."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    settle()
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    work(rank, folder)
    dist.barrier()
    dist.destroy_process_group()


def run(book, work, folder, about, size=2):
    """Run a function in several processes that form a group, and describe the folder they save."""
    with tempfile.TemporaryDirectory() as scratch:
        multiprocessing.spawn(process, (work, folder, size, f"{scratch}/store"), nprocs=size)
    book.about[f"{folder}/"] = f"{about}; {size} process{'es' * (size > 1)}"


def several_processes(book):
    """DTensors and FSDP2 over gloo."""
    run(book, save_sharded, "sharded", "DTensors: even, uneven, by columns, replicated, a rank without a row")
    whole = {name: tensor for name, (tensor, _) in sharded_values().items()} | {"plain": count(3)}
    check_same(load("sharded")["model"], whole)
    book.expect("shards are joined", "sharded", load("sharded")["model"])
    book.expect("shards are joined and cast", "sharded", cast(load("sharded")["model"], "fp16"),
                "sharded.fp16.safetensors", ["--dtype", "fp16"])
    run(book, save_grid, "grid", "DTensors on a mesh of 2 by 2", size=4)
    check_same(load("grid"), {"tiles": count(5, 7), "half": count(3, 4), "twice": count(10, 2)})
    book.expect("tiles are joined", "grid", load("grid"))
    run(book, save_fsdp, "fsdp", "FSDP2 after a step: model and Adam state from get_state_dict")
    check_same(load("fsdp")["model"], torch.load("whole.pt"))
    os.unlink("whole.pt")
    book.expect("an FSDP2 checkpoint", "fsdp", load("fsdp")["model"])
    book.expect("an FSDP2 checkpoint with its optimizer", "fsdp", flatten(load("fsdp")), "fsdp.all.safetensors",
                ["--all"])
    run(book, save_alone, "alone", "use_collectives=False: `__0.metadata` instead of `.metadata`", size=1)
    check_same(load("alone"), {"weight": normal(4, 2), "bias": normal(3, seed=1)})
    book.expect("metadata of the only process", "alone", load("alone"))
    run(book, save_alone, "x_each_alone", "use_collectives=False: each process has metadata of its own shards")
    book.fail("metadata of each process apart: refused", "x_each_alone", "unsupported", ["__1.metadata"])
    run(book, save_tiny, "tiny", "what the damaged folders are made of")
    book.expect("the small sharded folder", "tiny", load("tiny"))


def sort_metadata(path):
    """Sort the metadata in a safetensors header, which its writer puts in a random order."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode().ljust(size)
    assert len(text) == size
    path.write_bytes(data[:8] + text + data[8 + size:])


def safetensors_folder(book):
    """A folder that is written as safetensors already."""
    save(book, "x_huggingface", "written by HuggingFaceStorageWriter: safetensors files", small_weights(),
         writer=HuggingFaceStorageWriter)
    sort_metadata(FOLDER / "x_huggingface" / "model-00001-of-00001.safetensors")
    book.fail("a folder of safetensors files: refused", "x_huggingface", "not a checkpoint", ["safetensors"])


# --- putting it together ----------------------------------------------------------------------------------


README = """# Distributed and sharded checkpoints

Everything here is written by `scripts/fixtures_distributed.py` and the two modules it imports; edit those, not these
files.

{commands}

Made with Python {python}, torch {torch}, numpy {numpy}, safetensors {safetensors}, on {machine}. Running the script
twice gives the same bytes. For that, `save_id` in `.metadata` is a settled value, checkpoints are saved under relative
paths, and the threads of `thread_count=2` write one after the other.

**Saved by torch.** The folders without `x_` were saved by `torch.distributed.checkpoint.save`: in one process, or in
two or four that talk over gloo, with DTensors and FSDP2. `old_form` and the `x_` folders are made of `tiny` and of each
other as the table says: parts removed, or `.metadata` changed and pickled again. The reference outputs are what
`dcp_to_torch_save` reads from the very folder; where the whole tensors are known, they are compared.

**Sharded checkpoints.** transformers wrote `pytorch_model.bin.index.json` with
`save_pretrained(safe_serialization=False, max_shard_size=…)`. Here `split_torch_state_dict_into_shards` of
huggingface_hub, which it used, splits the weights, and the index is written as transformers wrote it. Reference outputs
of a folder are what `save_file` makes of each shard, and the index as transformers writes it beside safetensors.

The format of `manifest.json` is described in `../README.md`. `expect_folder` names a folder whose files the output
folder must equal; `input` may be a folder.

{files}
"""


def main():
    """Write the whole folder."""
    book = Book(FOLDER)
    start(book, PINNED)
    logging.disable(logging.WARNING)
    settle()
    os.chdir(FOLDER)
    for make in (model_and_optimizer, other_shapes, layouts, several_processes, safetensors_folder, damage_cases,
                 sharded_cases):
        make(book)
    finish(book, README, PINNED, commands=commands("fixtures_distributed.py", PINNED))


if __name__ == "__main__":
    main()
