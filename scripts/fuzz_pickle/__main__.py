"""Checks `ckpt2st scan` against CPython's own unpicklers on streams that no pickler writes.

    python3 scripts/fuzz_pickle --binary target/release/ckpt2st --seconds 60

Each stream is read by both unpicklers of the Python that runs this (`_pickle.Unpickler` and
`pickle._Unpickler`), with a `find_class` that only records, and by `ckpt2st scan --json`. Every
global that either of them asks for must be in the scan's list, with a call if one of them calls it,
or the file must not be called clean.
"""

import _compat_pickle
import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

from mutate import Streams, real_pickles
from oracle import Oracle

BATCH = 400


def is_clean(scan):
    """Whether an object of `scan --json` calls its file clean."""
    return scan["status"] == "clean"


def listed(scan, calls):
    """The globals that the scan lists with so many calls at least."""
    found = (found for pickle in scan.get("pickles", ()) for found in pickle["globals"])
    return {found["name"] for found in found if found["calls"] >= calls}


def unlisted(asked, names):
    """Those of the globals that are not listed, not even as one whose module or name a call gives."""
    return sorted(found for found in asked if not spellings(*found) & names)


def spellings(module, name):
    """What the scan may call a global: as it is written, or as Python 3 calls that of Python 2."""
    anything = "<computed>"
    new = _compat_pickle.NAME_MAPPING.get((module, name)) or (_compat_pickle.IMPORT_MAPPING.get(module, module), name)
    return {f"{m}.{n}" for m in (module, anything) for n in (name, anything)} | {".".join(new)}


class Fuzzer:
    def __init__(self, options, folder):
        self.options, self.folder = options, pathlib.Path(folder)
        self.oracle = Oracle()
        self.reals = real_pickles()
        self.streams = self.finished = self.unknown = self.globals = self.clean = self.failures = 0

    def scans(self, files):
        """What the program says of files, by name."""
        for path in self.folder.iterdir():
            path.unlink()
        for name, data in files.items():
            (self.folder / name).write_bytes(data)
        command = [self.options.binary, "scan", "--json", "-q", str(self.folder)]
        ran = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
        scans = map(json.loads, ran.stdout.decode().splitlines())
        found = {pathlib.Path(scan["input"]).name: scan for scan in scans}
        if found.keys() != files.keys():
            sys.exit(f"scan ended with {ran.returncode}: {ran.stderr.decode()}")
        return found

    def due(self, read):
        """The globals that the scan has to list, and those that it has to list with a call."""
        due, due_calls = set(), set()
        for asked, used, called, _ in read.values():
            due |= used if self.options.used else asked
            # Calls of other modules can be plain data, which is no call for the scan.
            due_calls |= {(module, name) for module, name in called if module == "mark"}
        return due, due_calls

    def missed(self, due, scan):
        if not is_clean(scan):
            return []
        return unlisted(due[0], listed(scan, 0)) or unlisted(due[1], listed(scan, 1))

    def batch(self, number):
        chance = random.Random(f"{self.options.seed} {number}")
        made = Streams(chance, self.reals)
        files = {}
        for index in range(BATCH):
            pieces, (wrap, ending) = made.pieces(), made.container()
            files[f"{index:03}{ending}"] = (pieces, wrap)
        scans = self.scans({name: wrap(b"".join(pieces)) for name, (pieces, wrap) in files.items()})
        for name, (pieces, wrap) in files.items():
            due = self.count(b"".join(pieces), scans[name])
            if self.missed(due, scans[name]):
                self.failures += 1
                self.report(f"{self.options.seed}-{number}-{name}", pieces, wrap)

    def count(self, data, scan):
        read = self.oracle.read(data)
        due = self.due(read)
        self.streams += 1
        self.unknown += not read
        self.finished += any(loads for *_, loads in read.values())
        self.globals += len(due[0])
        self.clean += is_clean(scan)
        return due

    def report(self, name, pieces, wrap):
        """Prints a failure, and keeps it as small as it can be made."""
        file = "file" + pathlib.Path(name).suffix

        def fails(pieces):
            data = b"".join(pieces)
            return self.missed(self.due(self.oracle.read(data)), self.scans({file: wrap(data)})[file])

        small = shrunk(pieces, fails)
        small = shrunk([bytes([byte]) for byte in b"".join(small)], fails)
        data = b"".join(small)
        asked = {reader: sorted(asked) for reader, (asked, *_) in self.oracle.read(data).items()}
        print(f"FAILED {name} ({wrap.__name__}): {data!r}\n  not listed: {fails(small)}\n  asked for: {asked}", flush=True)
        if self.options.keep:
            self.options.keep.mkdir(parents=True, exist_ok=True)
            (self.options.keep / name).write_bytes(wrap(data))

    def run(self):
        start = time.monotonic()
        number = self.options.batch or 0
        while self.failures < self.options.failures:
            print(f"seed {self.options.seed}, batch {number}", file=sys.stderr)
            self.batch(number)
            number += 1
            seconds = time.monotonic() - start
            if self.options.batch is not None or self.streams >= self.options.streams or seconds >= self.options.seconds:
                break
        print(
            f"{self.streams} streams in {time.monotonic() - start:.0f} s: a reader of Python finished {self.finished} and asked "
            f"for {self.globals} globals; scan called {self.clean} clean; {self.failures} failures"
            + (f"; {self.unknown} took too long or too much memory" if self.unknown else "")
        )
        return self.failures == 0


def shrunk(pieces, fails, tries=300):
    """Few of the pieces that still fail."""
    size = max(len(pieces) // 2, 1)
    while True:
        at, count = 0, len(pieces)
        while at < len(pieces):
            fewer = pieces[:at] + pieces[at + size:]
            tries -= 1
            if tries < 0:
                return pieces
            if fewer and fails(fewer):
                pieces = fewer
            else:
                at += size
        if size == 1 and len(pieces) == count:
            return pieces
        size = max(size // 2, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/ckpt2st", help="the program")
    parser.add_argument("--seed", default="0", help="default: 0")
    parser.add_argument("--batch", type=int, help="only this batch, to see a failure again")
    parser.add_argument("--seconds", type=float, default=60, help="stop after the batch in which they pass; default: 60")
    parser.add_argument("--streams", type=float, default=float("inf"), help="stop after about so many streams")
    parser.add_argument("--failures", type=int, default=20, help="stop after so many failures; default: 20")
    parser.add_argument("--used", action="store_true", help="pass over what is only named in a pickle that no reader finishes")
    parser.add_argument("--keep", type=pathlib.Path, metavar="FOLDER", help="where failures are kept, as small as possible")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(options, folder)
        try:
            sys.exit(not fuzzer.run())
        finally:
            fuzzer.oracle.close()


if __name__ == "__main__":
    main()
