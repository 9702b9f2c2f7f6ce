#!/usr/bin/env python3
"""Write the files directly in fixtures/, and fixtures/pickle/: real torch's checkpoints and the outputs to expect.

    python3.11 -m venv venv
    venv/bin/pip install torch==2.15.0 numpy==2.4.6 safetensors==0.8.0
    venv/bin/python scripts/make_fixtures.py

Running it twice gives the same bytes. The expected outputs are computed by torch and the safetensors package, never by
ckpt2st. The cases themselves are in cases_core_*.py.

Every other folder X in fixtures/ is written by fixtures_X.py: deepspeed, distributed, export, formats, frameworks,
legacy, modules, torchscript, values. These two are started by other scripts, in other environments:
fixtures_old_torch.py for export, legacy, modules, torchscript and values; fixtures_dtensor.py for values.

Only imported: cases_X_*.py hold cases of one folder; fixture_*.py hold what the scripts share.
"""

import shutil

import torch

from cases_core_pickle import pickle_files
from cases_core_refused import dangerous_cases, ema_failures, name_failures, not_checkpoints, unsupported_cases
from cases_core_tensors import (
    cast_cases, dtype_cases, geometry_cases, name_cases, protocol_cases, tied_cases, transpose_cases,
    wrapped_tensor_cases,
)
from cases_core_trees import (
    autoencoder_cases, foreign_classes, lightning_cases, stable_diffusion_cases, training_cases, twin_cases,
    wrapper_cases,
)
from cases_core_zip import damaged_cases, untyped_case, zip_cases, zip_source
from fixture_book import FIXTURES, Book
from fixture_run import PINNED, commands, finish, start

README = """# Fixtures

Everything here is written by `scripts/make_fixtures.py`; edit that, not these files.

{commands}

Made with Python {python}, torch {torch}, numpy {numpy}, safetensors {safetensors}, on {machine}; the CPU
capability torch reports is {capability}. Running the script twice gives the same bytes: `.data/serialization_id`
is derived from the content.

**Reference outputs.** Each checkpoint is loaded with `torch.load`, the tensors that the flags ask for are picked in
Python, made contiguous with conjugation and negation resolved, cast with `Tensor.to`, and written by
`safetensors.torch.save_file(tensors, metadata={{"format": "pt"}})`. Each is loaded again and compared. The two kinds of
input that torch is not asked to load are the dangerous pickle and the tensors that `--exclude` leaves out; there the
tensors that were saved are the reference.

**`manifest.json`** lists the cases: `name`, `input`, `args`, and either `expect` (the output equals this file byte for
byte) or `error`, `exit` and `mentions` (the exit code, and text that the message contains). `error` is a word for the
reader: `unsupported`, `names`, `selection`, `corrupt`, `not a checkpoint`, `dangerous`. Inputs
that are refused without any flag are called `x_…`.

**NaN.** The NaN bits that torch's casts give differ between its vector path and its scalar tail, and between CPU
capabilities. Every tensor with a NaN that is cast here therefore has a multiple of 64 elements, torch runs on one
thread, and the script stops if a result depends on the position of an element. With ATEN_CPU_CAPABILITY=default
the NaN bits of `cast_mix.bf16`, `cast_mix.fp16` and `cast_patterns.fp16` come out differently.

**Optimizer states** come from one real step of the optimizer and may differ in the last bit on another processor.

{total}

{files}
"""


class CoreBook(Book):
    """The book of the files that stand beside the other scripts' folders."""

    def clear(self):
        """Start from a folder without files of ours; the other scripts' folders stay."""
        self.folder.mkdir(exist_ok=True)
        for path in self.folder.iterdir():
            if path.is_file():
                path.unlink()
        shutil.rmtree(self.folder / "pickle", ignore_errors=True)
        (self.folder / "pickle").mkdir()

    def paths(self):
        """Give the files that this script writes."""
        return [path for folder in (self.folder, self.folder / "pickle") for path in folder.iterdir() if path.is_file()]


def main():
    """Write the whole folder."""
    book = CoreBook(FIXTURES)
    start(book, PINNED)
    classes = foreign_classes()
    for make in (dtype_cases, untyped_case, protocol_cases, name_cases, geometry_cases, transpose_cases, tied_cases,
                 wrapped_tensor_cases, cast_cases, wrapper_cases, training_cases, twin_cases, autoencoder_cases,
                 unsupported_cases, name_failures, ema_failures, dangerous_cases, not_checkpoints, pickle_files):
        make(book)
    lightning_cases(book, classes)
    stable_diffusion_cases(book, classes)
    zip_cases(book, zip_source(book))
    damaged_cases(book)
    finish(book, README, PINNED, commands=commands("make_fixtures.py", PINNED),
           capability=torch.backends.cpu.get_cpu_capability())


if __name__ == "__main__":
    main()
