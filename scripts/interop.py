#!/usr/bin/env python3
"""Convert what real programs wrote, load it with real programs, and compare everything bit for bit.

scripts/interop.sh makes the environment for it, and runs it. Every model is tiny and has random weights, none is
downloaded. What is expected are the producers' own tensors in memory. A producer is a function that writes into a
folder and yields cases (interop_case.py); each module interop_*.py lists its own in PRODUCERS.
"""

import argparse
import importlib.metadata
import logging
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import traceback
import warnings

os.environ.update({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1",
                   "OMP_NUM_THREADS": "1"})
logging.disable(logging.WARNING)

import torch

import interop_diffusers
import interop_modules
import interop_old
import interop_stable_diffusion
import interop_torch
import interop_training
import interop_transformers
import interop_vision
from interop_case import Difference, Skipped
from interop_consumers import consumers

MODULES = [interop_transformers, interop_diffusers, interop_stable_diffusion, interop_vision, interop_training,
           interop_modules, interop_torch, interop_old]
ALL = ("safetensors.torch", "safetensors.numpy", "safetensors crate", "candle")
VERSIONS = ("torch", "safetensors", "numpy", "transformers", "diffusers", "timm", "lightning", "torchvision", "peft",
            "accelerate", "huggingface_hub", "omegaconf")


class Table:
    """The rows: producer, consumer, tensors, result."""

    def __init__(self):
        self.rows = []

    def add(self, producer, consumer, tensors, result):
        """Add and print a row."""
        self.rows.append((producer, consumer, tensors, result))
        print(f"{producer:<58}  {consumer:<26}  {tensors:>5}  {result}", flush=True)

    def summary(self):
        """Give the line that says it all."""
        failed, skipped = (sum(result.startswith(word) for *_, result in self.rows) for word in ("FAILED", "skipped"))
        pairs, tensors = len(self.rows) - skipped, sum(row[2] for row in self.rows)
        conversions, programs = (len({row[i] for row in self.rows}) for i in (0, 1))
        what = f"{failed} FAILED" if failed else "all equal"
        return (f"{conversions} conversions of what real programs wrote, {programs} ways to load: {pairs:,} pairs, "
                f"{tensors:,} tensors compared, {what} ({skipped} skipped)"), failed

    def markdown(self):
        """Give the table for docs/interop.md: a row for each producer, a column for each program that loads all."""
        cells, remarks = {}, set()
        for producer, consumer, tensors, result in self.rows:
            cell = f"{tensors:,}" if result.startswith("equal") else result
            for start, sign in (("equal, ", f"{cell}*"), ("skipped: ", "-*")):
                if result.startswith(start):
                    remarks.add(result.removeprefix(start))
                    cell = sign
            row = cells.setdefault(producer, {})
            if consumer in ALL:
                row[consumer] = cell
            else:
                row["others"] = "; ".join(filter(None, [row.get("others"), f"{consumer}: {cell}"]))
        lines = [f"**{self.summary()[0]}.**", "", f"Made on {platform.system()} {platform.machine()} with Python "
                 f"{platform.python_version()}, {', '.join(map(version, VERSIONS))}.", "",
                 f"| producer | {' | '.join(ALL)} | the program itself |", "|---|---:|---:|---:|---:|---|"]
        for producer, row in cells.items():
            lines.append(f"| {producer} | {' | '.join(row.get(name, '') for name in (*ALL, 'others'))} |")
        return "\n".join([*lines, "", f"*: {'; '.join(sorted(remarks))}.", ""])


def version(name):
    """Give a package and its version."""
    return f"{name} {importlib.metadata.version(name).split('+')[0]}"


def convert(program, case, result):
    """Convert a case's checkpoint into an empty folder."""
    shutil.rmtree(result, ignore_errors=True)
    result.mkdir(parents=True)
    target = result / case.output if case.output else f"{result}/"
    command = [program, case.source, "-q", "--no-sync", "-o", target, *case.options]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Difference(f"ckpt2st failed with {done.returncode}: {done.stderr.strip()}")


def check(case, folder, arguments, table):
    """Convert a case and load it with everything."""
    try:
        convert(arguments.ckpt2st, case, folder / "result")
    except Difference as error:
        table.add(case.name, "ckpt2st", 0, f"FAILED: {error}")
        return
    runs = consumers(folder / "result", case.expected, arguments.rust)
    for label, load in case.loaders.items():
        runs[label] = lambda load=load: load(folder / "result")
    for consumer, run in runs.items():
        try:
            number = run()
            number, remark = number if isinstance(number, tuple) else (number, "")
            table.add(case.name, consumer, number, f"equal, {remark}" if remark else "equal")
        except Skipped as reason:
            table.add(case.name, consumer, 0, f"skipped: {reason}")
        except Exception as error:  # noqa: BLE001 - whatever a program fails with is a row
            if not isinstance(error, Difference):
                traceback.print_exc()
            table.add(case.name, consumer, 0, f"FAILED: {error}".replace("\n", " ")[:300])


def produce(number, producer, arguments, table):
    """Run one producer in a folder of its own."""
    folder = arguments.folder / f"{number:03}"
    folder.mkdir(parents=True)
    torch.manual_seed(number)
    first = None
    try:
        for case in producer(folder):
            first = first or case.name
            case.name = case.name.replace("the same", first)
            assert case.name not in {row[0] for row in table.rows}, case.name
            check(case, folder, arguments, table)
    except Skipped as reason:
        print(f"skipped: {reason}")
    except Exception as error:  # noqa: BLE001 - a producer that fails is a failure, and the others go on
        traceback.print_exc()
        table.add(getattr(producer, "__name__", str(producer)), "producer", 0, f"FAILED: {error}".replace("\n", " ")[:300])
    shutil.rmtree(folder)


def main():
    """Run all producers, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ckpt2st", type=pathlib.Path, required=True)
    parser.add_argument("--rust", type=pathlib.Path, required=True, help="the program of scripts/interop_rust")
    parser.add_argument("--old-python", default="", help="a Python with torch 1.13.1")
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="for the checkpoints; is emptied")
    parser.add_argument("--table", type=pathlib.Path, help="Markdown file to write the table to")
    parser.add_argument("--only", default="", help="producers whose MODULE.FUNCTION has this in it")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    shutil.rmtree(arguments.folder, ignore_errors=True)
    arguments.folder.mkdir(parents=True)
    arguments.folder = arguments.folder.resolve()
    interop_old.PYTHON = arguments.old_python
    table = Table()
    producers = [producer for module in MODULES for producer in module.PRODUCERS]
    for number, producer in enumerate(producers):
        if arguments.only in f"{producer.__module__}.{producer.__qualname__}":
            produce(number, producer, arguments, table)
    summary, failed = table.summary()
    if arguments.table:
        arguments.table.write_text(table.markdown())
    print(summary)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
