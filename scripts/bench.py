#!/usr/bin/env python3
"""Time whole runs of ckpt2st beside cp, in one table. Needs nothing but Python 3.9 and Linux.

    cargo build --release
    python3 scripts/bench.py
    python3 scripts/bench.py --cases a,b --into docs/performance.md
    python3 scripts/bench.py --cases a,b,d --peers --python venv/bin/python
    python3 scripts/bench.py --gb 0.05 --rounds 1

Cases, all of float32:

a  Stable Diffusion 1.5 with averages, 7.7 GB, to fp16 without the averages
b  2 GB as they are: without and with waiting for the disk, and with --verify
c  the same to fp16, bf16, fp8-e4m3, fp8-e5m2
d  100,000 tensors of 64 elements
e  1,000 files of 100 KB in one run
f  2 GB of transposed and of channels-last tensors
g  2 GB in the stream of torch before 1.6
h  1 GB in compressed zip entries, and in a compressed stream
i  2 GB that are not in the page cache, as they are and to fp16

In each round a case and its reference run right after each other, in turned order from round to round. Each run starts
without outputs and with nothing left to write back, and finds its input in the page cache (but in i). Ratios are
medians of the ratios of these pairs. Peak RSS is that of the largest process and needs GNU time, since Linux charges
what Python starts with the memory of Python. Inputs are made one at a time and removed; 17 GB of disk are enough.

--peers adds torch.load with safetensors.torch.save_file (bench_torch.py), and --peer any other converter, on b; what it
names with a / is looked for from the current folder:

    python3 scripts/bench.py --cases b --peer 'other=other-tool --from {input} --to {output}'
"""

import argparse
import collections
import functools
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

import bench_machine
import bench_peers
import bench_report
from bench_cases import FLAT, make_input, rows, scale_rows, scaled
from bench_parts import TARGET, measure, run_rounds

BUFFER = 1 << 20
# The input, a copy of it, and something to spare.
SPACE = 2.1
LETTERS = sorted({row.key[0] for row in rows()})

Result = collections.namedtuple("Result", "row runs references size_in size_out")


# --- runs -------------------------------------------------------------------------------------------------


def files_in(path):
    """Give a file, or the files below a folder."""
    return [file for file in (path, *path.rglob("*")) if file.is_file()]


def size_of(path):
    """Give the size of a file, or of all files below a folder."""
    return sum(file.stat().st_size for file in files_in(path))


def read_once(path):
    """Bring files into the page cache."""
    for file in files_in(path):
        with open(file, "rb", buffering=0) as opened:
            while opened.read(BUFFER):
                pass


def drop_from_cache(path):
    """Take files, of which nothing is left to be written, out of the page cache."""
    for file in files_in(path):
        with open(file, "rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Bench:
    """A folder with one input and the outputs of one run, and where the programs are."""

    def __init__(self, folder, programs):
        self.folder = folder
        self.out = folder / "out"
        self.programs = programs
        self.held = None

    def provide(self, given):
        """Have this input, and no other."""
        if self.held == given:
            return
        self.clear()
        if self.held:
            remove(self.folder / self.held.name)
        self.held = given
        if shutil.disk_usage(self.folder).free < SPACE * given.size:
            sys.exit(f"{given.name} needs {SPACE * given.size / 1e9:.1f} GB of disk; choose others with --cases")
        print(f"making {given.name}", file=sys.stderr)
        make_input(self.folder, given)

    def clear(self):
        """Have no outputs."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()

    def run(self, name, command, cold=False):
        """Run a command without old outputs."""
        self.clear()
        subprocess.run(["sync", "-f", self.folder], check=True)
        # Others may have taken the place of the input in the page cache since the last run.
        (drop_from_cache if cold else read_once)(self.folder / self.held.name)
        words = [self.programs.get(word, word) for word in command]
        return measure(name, words, self.folder, cwd=self.folder)

    def pair(self, row, rounds):
        """Time a row and its reference."""
        self.provide(row.input)
        sizes = []

        def run_row():
            ran = self.run(row.key, row.command, row.cold)
            sizes.append(size_of(self.out))
            return ran

        reference = functools.partial(self.run, row.label, row.reference, row.cold)
        runs, references = run_rounds([run_row, reference], rounds, f"{row.key} {row.name}, ")
        return Result(row, runs, references, size_of(self.folder / row.input.name), sizes[0])


def remove(path):
    """Remove a file or a folder."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()


# --- all of it --------------------------------------------------------------------------------------------


def parse_args():
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Time whole runs of ckpt2st beside cp, in one table.",
                                     epilog="Cases and rules are described at the top of this script.")
    parser.add_argument("binary", type=pathlib.Path, nargs="?", default=TARGET / "release/ckpt2st",
                        help="the ckpt2st to time (default target/release/ckpt2st)")
    parser.add_argument("--cases", default=",".join(LETTERS), help="letters of some cases (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs of each row (default 5)")
    parser.add_argument("--gb", type=float, help="2 GB become this, all else in proportion; targets are not judged")
    parser.add_argument("--scale", action="store_true", help="add b and c at 0.25, 1 and 4 GB")
    parser.add_argument("--peers", action="store_true", help="add torch with safetensors to a, b and d")
    parser.add_argument("--python", type=pathlib.Path, default=pathlib.Path(sys.executable),
                        help="the Python of --peers, with torch and safetensors (default this one)")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND {input} {output}",
                        help="add another converter to b; repeatable")
    parser.add_argument("--into", type=pathlib.Path, metavar="FILE",
                        help=f"replace what stands between {bench_report.START} and {bench_report.END} of this file")
    parser.add_argument("--folder", type=pathlib.Path, default=TARGET,
                        help="where inputs and outputs are for a while (default target)")
    args = parser.parse_args()
    args.cases = [letter for letter in args.cases.split(",") if letter]
    if unknown := sorted(set(args.cases) - set(LETTERS)):
        parser.error(f"--cases has no {', '.join(unknown)}")
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    if args.gb is not None and not 0 < args.gb <= 2:
        parser.error("--gb must be above 0 and at most 2")
    if not args.binary.is_file():
        parser.error(f"{args.binary} is not there; build it with cargo build --release")
    if args.into and not (args.into.is_file() and bench_report.has_place(args.into.read_text())):
        parser.error(f"{args.into} has no {bench_report.START} and {bench_report.END}")
    try:
        args.peer = [bench_peers.parse_peer(text) for text in args.peer]
    except ValueError as error:
        parser.error(f"--peer must be NAME=COMMAND with {{input}} and {{output}}, not {error}")
    return args


def bench(args, folder):
    """Run all cases; give the report."""
    # Absolute, but not resolved: a link is what makes the Python of a virtual environment.
    binary, python = args.binary.absolute(), args.python.absolute()
    place = Bench(folder, {"ckpt2st": binary, "python": python, bench_peers.SCRIPT: bench_peers.script_path()})
    facts, share = bench_machine.describe(binary, folder), (args.gb or 2) * 1e9 / FLAT.size
    torch = bench_peers.torch_of(python) if args.peers else None
    results, compared = [], []
    for row in rows():
        if row.key[0] not in args.cases:
            continue
        row = row._replace(input=scaled(row.input, share))
        results.append(place.pair(row, args.rounds))
        peers = bench_peers.peers_of(row, torch, args.peer)
        compared += bench_peers.compare(place, row, peers, args.rounds) if peers else []
    sizes = [row._replace(input=scaled(row.input, share)) for row in scale_rows()] if args.scale else []
    grown = [place.pair(row, args.rounds) for row in sizes]
    return report(args, facts, torch, results, compared, grown)


def report(args, facts, torch, results, compared, grown):
    """Write all that was measured."""
    judged = args.gb is None
    parts = [f"{facts}.", f"    {shlex.join(['python3', *sys.argv])}"]
    parts += [bench_report.main_table(results, judged)] if results else []
    notes = [*bench_report.cache_notes(results + grown), *bench_report.packed_notes(results)]
    if not judged:
        notes.append("Inputs are smaller than those that the targets are for, so nothing is judged.")
    if bench_machine.file_system(args.folder) in bench_machine.CLONING:
        notes.append("On this file system cp may share blocks instead of copying them, and the ratios mean little.")
    if compared:
        versions = f" ({torch})" if torch else ""
        parts += [f"Other converters, and how many times faster ckpt2st is{versions}:"]
        parts += [bench_report.peer_table(compared, judged)]
    if args.peers and not torch:
        notes.append(f"No torch: {args.python} has not both torch and safetensors.")
    if grown:
        parts += ["Sizes, with the commands of b1 and c1:", bench_report.scale_table(grown)]
    parts += ["\n".join(f"- {note}" for note in notes)] if notes else []
    pairs = {result.row.key: (result.row.command, result.row.reference) for result in results + grown}
    for one in compared:
        pairs[f"{one.row.key}, {one.peer.name}"] = one.row.command, bench_peers.filled(one.row, one.peer)
    inputs = dict.fromkeys((result.row.input.name, result.row.input.what) for result in results + grown)
    parts += ["\n".join(f"- `{name}`: {what}" for name, what in inputs), bench_report.command_table(pairs)]
    return "\n\n".join(parts)


def main():
    """Measure what the command line asks for, and leave nothing behind."""
    args = parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    args.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=args.folder.resolve()) as folder:
        made = bench(args, pathlib.Path(folder))
    print(made)
    if args.into:
        bench_report.put_into(args.into, made)


if __name__ == "__main__":
    main()
