"""What bench.py ran on: the machine, the file system, and the commit of the binary."""

import datetime
import os
import pathlib
import platform
import shlex
import shutil
import subprocess

MEGA = 1 << 20
# Where cp shares the blocks of its source instead of copying them.
CLONING = ("btrfs", "xfs", "zfs", "bcachefs")


def output_of(*command):
    """Give what a command prints, or None if it fails or is not there."""
    if not shutil.which(command[0]):
        return None
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return None if done.returncode else done.stdout.strip()


def value_in(path, name):
    """Give the value of the first line `name: value` of a file of /proc, or None."""
    for line in pathlib.Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def commit_of(binary):
    """Give the commit whose sources the binary was built from, as cargo lists them, or None if that is not clear."""
    listed = pathlib.Path(f"{binary}.d")
    if not listed.is_file():
        return None
    sources = shlex.split(listed.read_text().partition(": ")[2])
    built = binary.stat().st_mtime
    if not sources or any(not os.path.exists(source) or os.stat(source).st_mtime > built for source in sources):
        return None
    inside = "git", "-C", os.path.dirname(sources[0])
    changed = output_of(*inside, "status", "--porcelain", "--", *sources)
    return None if changed != "" else output_of(*inside, "rev-parse", "--short", "HEAD")


def file_system(folder):
    """Give the type of the file system."""
    return (output_of("df", "--output=fstype", folder) or "unknown").split()[-1]


def describe(binary, folder):
    """Describe the time, the binary and the machine in one line."""
    memory = int(value_in("/proc/meminfo", "MemTotal").split()[0]) / MEGA
    return ", ".join([
        datetime.date.today().isoformat(),
        f"{output_of(str(binary), '--version')} (commit {commit_of(binary) or 'unknown'})",
        value_in("/proc/cpuinfo", "model name") or platform.machine(),
        f"{os.cpu_count()} cores",
        f"{memory:.1f} GiB of memory",
        f"{platform.system()} {platform.release()}",
        file_system(folder),
        f"load {os.getloadavg()[0]:.2f} at the start",
    ])
