#!/usr/bin/env python3
"""Time ckpt2st on a folder of many small checkpoints, beside cp and Python. Needs nothing but Python 3.9 and Linux.

    cargo build --release
    python3 scripts/bench_batch.py
    python3 scripts/bench_batch.py --files 10000 --rounds 7
    python3 scripts/bench_batch.py --files 200 --kib 2000
    python3 scripts/bench_batch.py --python venv/bin/python --sample 20

Makes --files checkpoints as torch.save writes them, of ten matrices and ten vectors of float32 each, and in every
round runs each case once. Rounds run the cases forward and backward in turn; each run starts without outputs and
with nothing left to write back, and finds its inputs in the page cache.

--python names a Python with torch and safetensors and adds torch.load(weights_only=True) with
safetensors.torch.save_file. Of the sample, their outputs and those of ckpt2st must be equal byte for byte.

Seconds with a ~ are extrapolated: those of a sample, times as many as it goes into all files. Ratios are medians of
the ratios to the first case in the same round. Peak RSS is that of the largest process, and needs GNU time, since
Linux charges what Python starts with the memory of Python. `sync -f` waits for all writers of the file system.
"""

import argparse
import collections
import filecmp
import functools
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from bench_parts import BATCH_KIB, TARGET, make_batch, measure, median, pair_ratio, peak_mib, run_rounds, spread

# ckpt2st starts so fast that the few files of Python's sample would give no time that means something.
LOOPED_PER_SAMPLE = 10

PROCESS_PER_FILE = """
out=$1 binary=$2
shift 2
for file; do
    name=${file##*/}
    "$binary" -q "$file" -o "$out/${name%.*}.safetensors"
done
"""
PYTHON_PER_FILE = """
out=$1 python=$2 script=$3
shift 3
for file; do
    "$python" -c "$script" "$out" no-sync "$file"
done
"""
PYTHON = """
import os, sys
import safetensors.torch, torch
out, sync, source = sys.argv[1:]
for file in [entry.path for entry in os.scandir(source)] if os.path.isdir(source) else [source]:
    target = os.path.join(out, os.path.splitext(os.path.basename(file))[0] + ".safetensors")
    state = torch.load(file, weights_only=True)["state_dict"]
    safetensors.torch.save_file(state, target, metadata={"format": "pt"})
    if sync == "sync":
        with open(target, "rb") as saved:
            os.fsync(saved.fileno())
"""

Folders = collections.namedtuple("Folders", "inputs out done")
Case = collections.namedtuple("Case", "name files command into", defaults=[False])


# --- cases ------------------------------------------------------------------------------------------------


def shell(script, *words):
    """Give the command that runs a shell script with these words."""
    return ["sh", "-ec", script, "sh", *words]


def cases_of_ckpt2st(binary, folders, files, looped):
    """Give the cases of ckpt2st, first the one that all others are compared with."""
    into_out = [binary, "-q", folders.inputs, "-o", f"{folders.out}/"]
    into_done = [binary, "-q", folders.inputs, "-o", f"{folders.done}/"]
    count = len(files)
    return [
        Case("ckpt2st", count, into_out),
        Case("ckpt2st --no-sync", count, [*into_out, "--no-sync"]),
        Case("ckpt2st --threads 1", count, [*into_out, "--threads", "1"]),
        Case("ckpt2st --skip-existing, all done", count, [*into_done, "--skip-existing"]),
        Case("ckpt2st, process per file", len(looped), shell(PROCESS_PER_FILE, folders.out, binary, *looped), True),
    ]


def cases_of_cp(folders, files):
    """Give what the disk allows."""
    return [
        Case("cp -r", len(files), ["cp", "-r", folders.inputs, folders.out]),
        Case("cp -r, sync -f", len(files), shell('cp -r "$1" "$2"; sync -f "$2"', folders.inputs, folders.out)),
    ]


def cases_of_python(python, folders, files, sample):
    """Give the cases of Python, first the one whose outputs are compared."""
    per_file = shell(PYTHON_PER_FILE, folders.out, python, PYTHON, *sample)
    loop = [python, "-c", PYTHON, folders.out]
    return [
        Case("Python, process per file", len(sample), per_file, True),
        Case("Python, one process", len(files), [*loop, "no-sync", folders.inputs], True),
        Case("Python, one process, fsync", len(files), [*loop, "sync", folders.inputs], True),
    ]


# --- runs -------------------------------------------------------------------------------------------------


def run(case, folders):
    """Run a case without old outputs."""
    shutil.rmtree(folders.out, ignore_errors=True)
    if case.into:
        folders.out.mkdir()
    subprocess.run(["sync", "-f", folders.inputs], check=True)
    return measure(case.name, case.command, folders.inputs.parent)


def check_outputs(folders, sample):
    """Compare what a case wrote for the sample with what ckpt2st wrote."""
    names = [f"{file.stem}.safetensors" for file in sample]
    equal, _, _ = filecmp.cmpfiles(folders.out, folders.done, names, shallow=False)
    if len(equal) != len(names):
        sys.exit(f"outputs differ or are missing: {sorted(set(names) - set(equal))}")
    print(f"{len(equal)} outputs of ckpt2st and safetensors are equal byte for byte")


def print_table(cases, runs, count):
    """Print a line for each case."""
    print(f"{'case':34} {'files':>6} {'seconds [min-max]':>30} {'ms/file':>9} {'ratio':>8} {'peak RSS MiB':>13}")
    for case, made in zip(cases, runs):
        scale = count / case.files
        times = f"{'~' if case.files < count else ''}{spread(made, scale)}"
        each, ratio = median(made, scale) * 1000 / count, pair_ratio(made, runs[0], scale)
        print(f"{case.name:34} {case.files:6} {times:>30} {each:9.3f} {ratio:8.3f} {peak_mib(made):>13}")
    if any(case.files < count for case in cases):
        print(f"~ extrapolated from that many files to {count}")


# --- all of it --------------------------------------------------------------------------------------------


def parse_args():
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Time ckpt2st on a folder of many small checkpoints.")
    parser.add_argument("binary", type=pathlib.Path, nargs="?", default=TARGET / "release/ckpt2st",
                        help="the ckpt2st to time (default target/release/ckpt2st)")
    parser.add_argument("--files", type=int, default=1000, help="number of checkpoints (default 1000)")
    parser.add_argument("--kib", type=int, default=92, help="size of the tensors of each (default 92)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each case (default 5)")
    parser.add_argument("--python", type=pathlib.Path, help="a Python with torch and safetensors to compare with")
    parser.add_argument("--sample", type=int, default=20,
                        help="files with a Python process each; ten times as many with a ckpt2st process (default 20)")
    parser.add_argument("--folder", type=pathlib.Path, default=TARGET,
                        help="where inputs and outputs are for a while (default target)")
    args = parser.parse_args()
    if min(args.files, args.rounds, args.sample) < 1:
        parser.error("--files, --rounds and --sample must be at least 1")
    if not 1 <= args.kib <= BATCH_KIB:
        parser.error(f"--kib must be between 1 and {BATCH_KIB}")
    return args


def bench(args, folder):
    """Make the inputs, run the cases, print the table."""
    folders = Folders(*(folder / name for name in Folders._fields))
    files = make_batch(folders.inputs, args.files, args.kib)
    sample, looped = files[:args.sample], files[:args.sample * LOOPED_PER_SAMPLE]
    # Absolute, but not resolved: a link is what makes the Python of a virtual environment.
    binary = args.binary.absolute()
    cases = cases_of_ckpt2st(binary, folders, files, looped) + cases_of_cp(folders, files)
    print(f"{len(files)} files of {files[0].stat().st_size} bytes, {args.rounds} rounds, {os.cpu_count()} CPUs, "
          f"load {os.getloadavg()[0]:.1f} at the start", flush=True)
    run(cases[0], folders)
    folders.out.rename(folders.done)
    if args.python:
        added = cases_of_python(args.python.absolute(), folders, files, sample)
        run(added[0], folders)
        check_outputs(folders, sample)
        cases += added
    runs = run_rounds([functools.partial(run, case, folders) for case in cases], args.rounds)
    print_table(cases, runs, len(files))


def main():
    """Measure what the command line asks for, and leave nothing behind."""
    args = parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench_batch-", dir=args.folder.resolve()) as folder:
        bench(args, pathlib.Path(folder))


if __name__ == "__main__":
    main()
