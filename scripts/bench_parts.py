"""What the benchmarks share: a folder of small checkpoints, runs under GNU time, and numbers from their times."""

import collections
import math
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import time

from big_parts import BLOCK, DTYPES, Data, save, tensor

TARGET = pathlib.Path(__file__).resolve().parent.parent / "target"
LAYERS = 10
# The tensors of a file of a batch are no larger than a block, which is what keeps making it fast.
BATCH_KIB = LAYERS * BLOCK // 1024
# Of what getrusage counts as read from the disk.
SECTOR = 512

# Seconds, KiB of the largest process (None without GNU time), seconds of CPU, bytes that came from the disk.
Run = collections.namedtuple("Run", "seconds peak cpu read")


# --- inputs -----------------------------------------------------------------------------------------------


def make_batch(folder, count, kib):
    """Write checkpoints of ten matrices and ten vectors, as torch.save does; give their paths."""
    folder.mkdir()
    dtype = DTYPES["f32"]
    data = Data(dtype)
    side = math.isqrt(kib * 1024 // (LAYERS * dtype.size))
    shapes = {"weight": (side, side), "bias": (side,)}
    planned = [(f"layers.{layer}.{name}", shape) for layer in range(LAYERS) for name, shape in shapes.items()]
    files = [folder / f"model_{number:06}.ckpt" for number in range(count)]
    for number, file in enumerate(files):
        first = number * len(planned)
        state = {name: tensor(first + index, shape, dtype) for index, (name, shape) in enumerate(planned)}
        save(file, {"state_dict": state}, data)
    return files


# --- runs -------------------------------------------------------------------------------------------------


def measure(name, command, folder, cwd=None):
    """Run a command, under GNU time if it is there, which leaves its number in the folder for a while."""
    timer, peak = shutil.which("time"), folder / "peak"
    timed = [timer, "-f", "%M", "-o", peak] if timer else []
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    code = subprocess.run([*timed, *command], stdin=subprocess.DEVNULL, cwd=cwd).returncode
    seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code != 0:
        sys.exit(f"{name}: exit code {code}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    read = (after.ru_inblock - before.ru_inblock) * SECTOR
    return Run(seconds, int(peak.read_text()) if timer else None, cpu, read)


def run_rounds(runners, rounds, label=""):
    """Call all runners in every round, forward and backward in turn; give the runs of each."""
    runs = [[] for _ in runners]
    for number in range(rounds):
        turn = list(zip(runners, runs))
        for runner, made in reversed(turn) if number % 2 else turn:
            made.append(runner())
        print(f"{label}round {number + 1} of {rounds}", file=sys.stderr)
    return runs


# --- numbers ----------------------------------------------------------------------------------------------


def median(runs, scale=1):
    """Give the median of the seconds."""
    return statistics.median(run.seconds * scale for run in runs)


def spread(runs, scale=1):
    """Write the median of the seconds, and the least and the most of them."""
    seconds = [run.seconds * scale for run in runs]
    return f"{median(runs, scale):.3f} [{min(seconds):.3f}-{max(seconds):.3f}]"


def pair_ratio(runs, base, scale=1):
    """Give the median of the ratios of the seconds to those of the base in the same round."""
    return statistics.median(run.seconds * scale / other.seconds for run, other in zip(runs, base))


def peak_of(runs):
    """Give the peak of the memory in MiB, or None without GNU time."""
    return None if runs[0].peak is None else max(run.peak for run in runs) / 1024


def peak_mib(runs):
    """Write the peak of the memory in MiB."""
    return "-" if runs[0].peak is None else f"{peak_of(runs):.1f}"
