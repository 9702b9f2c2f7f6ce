#!/usr/bin/env python3
"""Write fixtures/deepspeed/: checkpoint folders that DeepSpeed's ZeRO optimizers saved after a step.

    python3.11 -m venv venv
    venv/bin/pip install torch==2.15.0 numpy==2.4.6 safetensors==0.8.0 wheel packaging ninja psutil py-cpuinfo hjson \\
        msgpack einops pydantic tqdm
    DS_BUILD_OPS=0 DS_ACCELERATOR=cpu venv/bin/pip install --no-build-isolation --no-deps deepspeed==0.19.8
    venv/bin/python scripts/fixtures_deepspeed.py

Running it twice gives the same bytes. Reference outputs are what DeepSpeed's own zero_to_fp32 reads from these folders,
written by safetensors; never ckpt2st's.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import warnings
from collections import OrderedDict

import torch
import torch.multiprocessing as multiprocessing

from fixture_book import FIXTURES, Book, cast, cut, normal
from fixture_run import PINNED as BASE, finish, start

FOLDER = FIXTURES / "deepspeed"
PINNED = {**BASE, "deepspeed": "0.19.8"}
TAG = "global_step1"


# --- training ---------------------------------------------------------------------------------------------


class Net(torch.nn.Module):
    """A model with a tied weight, a frozen weight and buffers, whose sizes no number of processes divides."""

    def __init__(self, frozen=True):
        super().__init__()
        self.embed = torch.nn.Embedding(5, 3)
        self.middle = torch.nn.Linear(3, 3, bias=False)
        self.layer = torch.nn.Linear(3, 7)
        self.last = torch.nn.Linear(7, 3)
        self.head = torch.nn.Linear(3, 5, bias=False)
        self.gain = torch.nn.Parameter(torch.zeros(1))
        with torch.no_grad():
            for seed, parameter in enumerate(self.parameters()):
                parameter.copy_(normal(*parameter.shape, seed=seed))
        self.head.weight = self.embed.weight
        self.middle.weight.requires_grad_(not frozen)
        self.register_buffer("table", torch.tensor([3, 1, 2]))
        self.register_buffer("scale", normal(3, seed=20))
        self.register_buffer("hidden", normal(3, seed=21), persistent=False)

    def forward(self, ids):
        """Give a loss."""
        dtype = self.layer.bias.dtype
        hidden = self.middle((self.embed(ids) * self.scale).to(dtype))
        return (self.head(self.last(self.layer(hidden)).to(dtype)) * self.gain).float().sum()


def parameter_groups(model, groups):
    """Split the trainable parameters into one group or two."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    if groups == 1:
        return [parameter for _, parameter in named]
    biases = [parameter for name, parameter in named if name.endswith("bias")]
    others = [parameter for name, parameter in named if not name.endswith("bias")]
    return [{"params": biases, "lr": 0.1}, {"params": others}]


def train(rank, size, port, folder, stage, dtype, groups, frozen, more):
    """Take one step under DeepSpeed in one of the processes and save a checkpoint."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)  # among other things, fills memory that is padding with NaN
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1",
                      MASTER_PORT=str(port), DS_ACCELERATOR="cpu")
    import deepspeed
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # would be compiled, and only makes gloo faster
    deepspeed.get_accelerator().is_fp16_supported = lambda: True  # torch's kernels for the processor support it
    deepspeed.init_distributed(dist_backend="gloo")
    model = Net(frozen)
    config = {
        "train_micro_batch_size_per_gpu": 1, "zero_allow_untested_optimizer": True,
        "zero_optimization": {"stage": stage, **more},
    }
    if dtype != "fp32":
        config[dtype] = {"enabled": True, "loss_scale": 1} if dtype == "fp16" else {"enabled": True}
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=torch.optim.Adam(parameter_groups(model, groups), lr=0.01), config=config,
    )
    engine.backward(engine(torch.tensor([0, 1, 2 + rank])))
    engine.step()
    engine._copy_recovery_script = lambda *_: None  # leaves out a copy of zero_to_fp32.py
    engine.save_checkpoint(folder, tag=TAG, client_state={"epoch": 3})


def free_port():
    """Find a port for the processes to meet at."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


def reference(folder):
    """Give what DeepSpeed reads from a checkpoint folder."""
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint
    return get_fp32_state_dict_from_zero_checkpoint(folder)


def checkpoint(book, folder, stage, dtype, size=2, groups=2, frozen=True, about="", **more):
    """Train, save, and record what DeepSpeed reads from the folder."""
    multiprocessing.spawn(train, (size, free_port(), folder, stage, dtype, groups, frozen, more), nprocs=size)
    name = f"ZeRO stage {stage} in {dtype}, {size} processes{about}"
    book.about[f"{folder}/"] = name
    tensors = reference(folder)
    book.expect(name, folder, tensors)
    book.expect(f"{name}, by its tag folder", f"{folder}/{TAG}", tensors, f"{folder}.safetensors")
    return tensors


def good_cases(book):
    """Folders of every stage."""
    tensors = checkpoint(book, "zero1_bf16", 1, "bf16", frozen=False, about=", nothing frozen")
    book.expect("a cast of a ZeRO checkpoint", "zero1_bf16", cast(tensors, "bf16"), "zero1_bf16.bf16.safetensors",
                ["--dtype", "bf16"])
    wanted = {name: tensor for name, tensor in tensors.items() if name.startswith("layer.")}
    book.expect("a pattern on the names of a ZeRO checkpoint", "zero1_bf16", wanted, "zero1_bf16.layer.safetensors",
                ["--include", "layer.*"])
    checkpoint(book, "zero2_fp16", 2, "fp16")
    checkpoint(book, "zero2_fp32", 2, "fp32", groups=1, frozen=False, about=", one group, nothing frozen")
    checkpoint(book, "zero2_aligned", 2, "bf16", groups=1, parameter_alignment=True, about=", every parameter aligned")
    checkpoint(book, "zero2_three", 2, "bf16", size=3)
    checkpoint(book, "zero3_bf16", 3, "bf16")
    checkpoint(book, "zero3_fp32", 3, "fp32", groups=1, frozen=False, about=", one group, nothing frozen")
    checkpoint(book, "zero3_three", 3, "fp16", size=3, sub_group_size=6, about=", sub-groups of six elements")
    frozen_in_stage_1(book)
    eleven_processes(book)


def frozen_in_stage_1(book):
    """At stage 1 DeepSpeed lists no frozen parameters, and zero_to_fp32 loses them; they are among the model states."""
    folder, size = "zero1_frozen", 2
    multiprocessing.spawn(train, (size, free_port(), folder, 1, "bf16", 2, True, {}), nprocs=size)
    states = torch.load(FOLDER / folder / TAG / "mp_rank_00_model_states.pt", weights_only=False)
    tensors = reference(folder)
    lost = states["module"].keys() - tensors.keys()
    assert lost == {"middle.weight"} and states["frozen_param_shapes"] is None
    book.about[f"{folder}/"] = "ZeRO stage 1 in bf16, 2 processes, a frozen parameter that is only in `module`"
    book.expect("a frozen parameter is not lost at stage 1", folder,
                {**tensors, "middle.weight": states["module"]["middle.weight"]})


def eleven_processes(book):
    """A folder as eleven processes leave it, without what is not read, and in the form before enums and lists."""
    shapes = OrderedDict([("layer.weight", torch.Size([5, 4])), ("layer.bias", torch.Size([5]))])
    folder, size = FOLDER / "eleven", 11
    (folder / TAG).mkdir(parents=True)
    (folder / "latest").write_text(f"{TAG}\n")
    flat = torch.cat([normal(25, seed=30), torch.zeros(8)]).chunk(size)
    states = {
        "module": OrderedDict((name, torch.zeros(shape, dtype=torch.float16)) for name, shape in shapes.items()),
        "buffer_names": [], "param_shapes": [shapes], "shared_params": {}, "dp_world_size": size,
    }
    torch.save(states, folder / TAG / "mp_rank_00_model_states.pt")
    for rank in range(size):
        part = {"zero_stage": 2, "partition_count": size, "single_partition_of_fp32_groups": [flat[rank].clone()]}
        torch.save({"optimizer_state_dict": part}, folder / TAG / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
    book.about["eleven/"] = "written by hand: stage 2, 11 processes, only the keys that are read"
    tensors = reference("eleven")
    assert torch.equal(tensors["layer.bias"], normal(25, seed=30)[20:])
    book.expect("eleven processes, in the order of their numbers", "eleven", tensors)


# --- damaged folders --------------------------------------------------------------------------------------


def remake(book, source, folder, about, change, mentions, error="corrupt"):
    """Copy a folder, change the copy and record that it is refused."""
    shutil.copytree(source, folder)
    change(FOLDER / folder)
    book.about[f"{folder}/"] = f"{source}: {about}"
    book.fail(f"{source}, {about}: refused", folder, error, mentions)


def edit(file, change):
    """Load a file, change the value and save it again."""
    def apply(folder):
        value = torch.load(folder / TAG / file, weights_only=False)
        change(value)
        torch.save(value, folder / TAG / file)
    return apply


def cut_group(value):
    """Halve the first group of weights."""
    groups = value["optimizer_state_dict"]["single_partition_of_fp32_groups"]
    groups[0] = groups[0][:groups[0].numel() // 2].clone()


def grow_group(value):
    """Add elements to the first group of weights."""
    groups = value["optimizer_state_dict"]["fp32_flat_groups"]
    groups[0] = torch.cat([groups[0], torch.zeros(8)])


def damage_cases(book):
    """Folders with files missing or changed."""
    optim = "zero_pp_rank_{}_mp_rank_00_optim_states.pt"
    model = "zero_pp_rank_{}_mp_rank_00_model_states.pt"
    remake(book, "zero2_fp16", "x_rank_gone", "the optimizer file of rank 1 missing",
           lambda folder: (folder / TAG / optim.format(1)).unlink(), ["missing"])
    remake(book, "zero3_fp32", "x_first_gone", "the optimizer file of rank 0 missing",
           lambda folder: (folder / TAG / optim.format(0)).unlink(), ["missing"])
    remake(book, "zero2_fp16", "x_model_gone", "the model states missing",
           lambda folder: (folder / TAG / "mp_rank_00_model_states.pt").unlink(), ["model_states"])
    remake(book, "zero3_bf16", "x_fragment_gone", "the model states of rank 1 missing",
           lambda folder: (folder / TAG / model.format(1)).unlink(), ["missing"])
    remake(book, "zero2_fp32", "x_latest", "latest names a missing folder",
           lambda folder: (folder / "latest").write_text("global_step2"), ["global_step2"])
    remake(book, "zero2_fp32", "x_latest_outside", "latest names a folder outside",
           lambda folder: (folder / "latest").write_text("../zero2_fp16/global_step1"), ["latest"])
    remake(book, "zero2_fp32", "x_group_short", "a group of weights cut",
           edit(optim.format(1), cut_group), ["group 0", "missing"])
    remake(book, "zero3_fp32", "x_group_long", "a group of weights longer than its parameters",
           edit(optim.format(1), grow_group), ["50 elements", "42"])
    remake(book, "zero3_fp32", "x_cut", "the optimizer file of rank 1 cut",
           lambda folder: cut_file(folder / TAG / optim.format(1)), [optim.format(1), "truncated"])
    remake(book, "zero2_fp32", "x_tensor_parallel", "files of two model-parallel ranks", other_model_rank,
           ["mp_rank_01"], "unsupported")


def other_model_rank(folder):
    """Copy every file as that of a second part of the model."""
    for path in sorted((folder / TAG).iterdir()):
        shutil.copy(path, path.with_name(path.name.replace("mp_rank_00", "mp_rank_01")))


def universal_case(book):
    """The form without ranks that DeepSpeed's own tool makes of a checkpoint."""
    folder = "x_universal"
    subprocess.run(
        [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--input_folder", f"zero2_fp32/{TAG}",
         "--output_folder", f"{folder}/{TAG}_universal", "--inject_missing_state", "--num_extract_workers", "1",
         "--num_merge_workers", "1"], check=True)
    book.about[f"{folder}/"] = "zero2_fp32 as a universal checkpoint, made by deepspeed.checkpoint.ds_to_universal"
    for place in (folder, f"{folder}/{TAG}_universal"):
        book.fail("a universal checkpoint: refused", place, "unsupported", ["universal"])


def cut_file(path):
    """Cut a file."""
    path.write_bytes(cut(path.read_bytes()))


# --- putting it together ----------------------------------------------------------------------------------


README = """# DeepSpeed checkpoints

Everything here is written by `scripts/fixtures_deepspeed.py`; edit that, not these files. Its first lines say how to
install what it needs.

Made with Python {python}, torch {torch}, DeepSpeed {deepspeed}, numpy {numpy}, safetensors {safetensors}, on {machine}.
Running the script twice gives the same bytes.

A small model takes one step with Adam under DeepSpeed's engine, in two or three processes that talk over gloo, and
`engine.save_checkpoint` writes the folder. Three things are set from outside: DeepSpeed's check that the processor
supports float16 is answered with yes, its shared-memory collectives are not compiled, and no copy of `zero_to_fp32.py`
is left in the folder. Padding, which DeepSpeed leaves uninitialized, is NaN through
`torch.use_deterministic_algorithms`. The `x_` folders are copies with files removed or changed.

`eleven` is written by hand, with the keys that zero_to_fp32 reads.

The reference outputs are what `deepspeed.utils.zero_to_fp32.get_fp32_state_dict_from_zero_checkpoint` reads from the
very folder, written by safetensors: the float32 weights of the optimizer, buffers as float32, frozen parameters in the
dtype they are saved in, tied parameters under all their names. One thing is added: at stage 1 DeepSpeed lists no frozen
parameters, so zero_to_fp32 loses them; the reference for `zero1_frozen` takes the frozen parameter from `module`, in
the dtype it is saved in, as stages 2 and 3 do.

The format of `manifest.json` is described in `../README.md`; `input` may be a folder.

{files}
"""


def main():
    """Write the whole folder."""
    book = Book(FOLDER)
    start(book, PINNED)
    os.environ["DS_ACCELERATOR"] = "cpu"
    os.chdir(FOLDER)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["TRITON_CACHE_DIR"] = scratch
        good_cases(book)
    damage_cases(book)
    universal_case(book)
    finish(book, README, PINNED)


if __name__ == "__main__":
    main()
