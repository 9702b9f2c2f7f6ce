"""Other converters beside ckpt2st, for bench.py."""

import collections
import filecmp
import functools
import os
import pathlib
import shlex
import subprocess
import sys

from bench_parts import run_rounds

PEER_ROUNDS = 2
TORCH_ROWS = ("a1", "b1", "d1")
TORCH_OPTIONS = {"a1": ["--fp16", "--prune-ema"]}
OTHERS_ROW = "b1"
# How many times faster ckpt2st should be than torch.
TARGETS = {"a1": 8, "d1": 10}
SCRIPT = "scripts/bench_torch.py"
VERSIONS = """
import safetensors.torch, torch
print("torch", torch.__version__, "and safetensors", safetensors.__version__)
"""

# Outputs that must be equal are an error where they are not.
Peer = collections.namedtuple("Peer", "name command must_equal")
Compared = collections.namedtuple("Compared", "row peer runs ours target equal")


def torch_of(python):
    """Give the versions of a Python's torch and safetensors, or None if it has not both."""
    try:
        done = subprocess.run([python, "-c", VERSIONS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def script_path():
    """Give where the script that uses torch lies."""
    return pathlib.Path(__file__).resolve().parent / pathlib.Path(SCRIPT).name


def parse_peer(text):
    """Read NAME=COMMAND {input} {output}."""
    name, _, command = text.partition("=")
    words = shlex.split(command)
    if not name or not any("{input}" in word for word in words) or not any("{output}" in word for word in words):
        raise ValueError(text)
    # It runs in the folder of the input.
    words = [os.path.abspath(word) if "/" in word and os.path.exists(word) else word for word in words]
    return Peer(name, words, must_equal=False)


def peers_of(row, with_torch, others):
    """Give what a row's conversion is compared with."""
    peers = []
    if with_torch and row.key in TORCH_ROWS:
        words = ["python", SCRIPT, "{input}", "{output}", *TORCH_OPTIONS.get(row.key, [])]
        peers += [Peer("torch", words, True), Peer("torch, mmap", [*words, "--mmap"], True)]
    return peers + (others if row.key == OTHERS_ROW else [])


def filled(row, peer):
    """Give the command of a peer for a row's input."""
    places = {"{input}": row.input.name, "{output}": "out/model.safetensors"}
    return [functools.reduce(lambda word, place: word.replace(*place), places.items(), word) for word in peer.command]


def compare(bench, row, peers, rounds):
    """Run ckpt2st and all peers in every round; give what came of each peer."""
    made, expected = bench.out / "model.safetensors", bench.folder / "expected.safetensors"
    bench.run(row.key, row.command)
    made.rename(expected)
    equal = {}

    def run_peer(peer):
        ran = bench.run(peer.name, filled(row, peer))
        if peer.name not in equal:
            equal[peer.name] = filecmp.cmp(made, expected, shallow=False)
            if peer.must_equal and not equal[peer.name]:
                sys.exit(f"{row.key}: the output of {peer.name} differs from that of ckpt2st")
        return ran

    runners = [functools.partial(bench.run, row.key, row.command)]
    runners += [functools.partial(run_peer, peer) for peer in peers]
    ours, *theirs = run_rounds(runners, min(rounds, PEER_ROUNDS), f"{row.key} and peers, ")
    expected.unlink()
    return [
        Compared(row, peer, runs, ours, TARGETS.get(row.key) if peer.must_equal else None, equal[peer.name])
        for peer, runs in zip(peers, theirs)
    ]
