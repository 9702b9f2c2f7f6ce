#!/usr/bin/env python3
"""Scan the same attack files with several scanners, and print a table in Markdown.

    scripts/compare_scanners.py --binary target/release/ckpt2st --prove PYTHON > table.md

Makes an environment below target/compare with the PACKAGES from PyPI, once; any Python from 3.10 to 3.13
that can make environments does. The attack files (compare_scanners_attacks.py) lie in a temporary folder. With --prove
each is really opened by PYTHON, which needs torch 2.15 and numpy 2, as its victim would do it; the payload only makes
an empty file in that folder. The table counts only what is proven then, and files whose payload did not run are named
on standard error. `--files` lists every scanner's verdict on every file there, too. On two idle cores all of it takes
about a quarter of an hour, most of it modelaudit's.

A file counts as found when the scanner calls it dangerous in its own terms:

    picklescan, modelscan    exit code 1; any other but 0 is an error
    modelaudit               a critical finding; other files with exit code 1 are counted apart as warned, since it
                             warns of every checkpoint that has a tensor
    fickling                 worse than LIKELY_SAFE; else, if it could not parse all of it, an error
    ckpt2st                  exit code 3; 1 (unreadable) and 4 (unknown) are counted apart
"""

import argparse
import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from compare_scanners_attacks import ATTACKS

ROOT = pathlib.Path(__file__).resolve().parent.parent
HOME = ROOT / "target" / "compare"
# The newest versions in November 2026.
PACKAGES = {"picklescan": "1.0.5", "fickling": "0.1.12", "modelscan": "0.8.8", "modelaudit": "0.2.54"}
# What stands between the command and a file's name, by column.
SCANNERS = {
    "picklescan": ["-p"],
    "picklescan --strict": ["--strict", "-p"],
    "fickling": [],
    "modelscan": ["-p"],
    "modelaudit": ["scan", "--no-cache", "--format", "json", "--output", "modelaudit.json"],
}
# No fixture of these is a pickle.
OTHER = {".safetensors", ".json", ".md", ".py"}
GENUINE = {
    "pickles that libraries wrote": ["genuine"],
    "files of frameworks": ["frameworks"],
    "legacy files and tars of torch": ["legacy"],
    "pickled modules": ["modules"],
    "TorchScript and exported programs": ["torchscript", "export"],
    "state dicts and training states": [".", "values", "weights", "config", "formats"],
}

# Opens each file as its victim does, in a child process, and prints which made a file.
PROVE = """
import json, os, pickle, signal, sys, time
import numpy, torch
ran = []
for name, loader in json.load(sys.stdin):
    child = os.fork()
    if child == 0:
        os.environ["BROWSER"] = "sh -c 'touch ran' %s"
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nothing, stream)
        signal.alarm(60)
        if loader == "torch":
            torch.load(name, weights_only=False)
        elif loader == "numpy":
            loaded = numpy.load(name, allow_pickle=True)
            [loaded[member] for member in getattr(loaded, "files", [])]
        else:
            with open(name, "rb") as file:
                pickle.load(file)
                while loader == "stream":
                    pickle.load(file)
        sys.exit()
    os.waitpid(child, 0)
    # Some payloads are processes of their own.
    for _ in range(20):
        if os.path.exists("ran"):
            os.remove("ran")
            ran.append(name)
            break
        time.sleep(0.1)
print(json.dumps(ran))
"""

# Scans each file in a child process, as the scanner's command does, and prints the exit codes.
SCAN = """
import importlib.metadata, json, os, signal, sys

def fickling(path):
    import zipfile
    from fickling import scan_file, scan_zip_archive
    from fickling.analysis import Severity
    with open(path, "rb") as file:
        results = [] if file.read(4) == b"PK\\x03\\x04" else [scan_file(path, graceful=True)]
    if zipfile.is_zipfile(path):
        results += scan_zip_archive(path, graceful=True).values()
    found = any(part.severity > Severity.LIKELY_SAFE for result in results for part in result.results)
    return 1 if found else 2 if any(result.errors for result in results) or not results else 0

def modelaudit(path):
    try:
        main()
    except SystemExit as end:
        code = end.code
    with open("modelaudit.json") as file:
        severities = {issue["severity"] for issue in json.load(file)["issues"]}
    os.remove("modelaudit.json")
    return 1 if "critical" in severities else 10 if code == 1 else code

def scan(path):
    sys.argv = [name, *arguments, path]
    sys.exit(fickling(path) if name == "fickling" else modelaudit(path) if name == "modelaudit" else main())

name, *arguments = sys.argv[1:]
files = json.load(sys.stdin)
[entry] = importlib.metadata.entry_points(group="console_scripts", name=name)
main = entry.load()
output = os.dup(1)
nothing = os.open(os.devnull, os.O_RDWR)
for stream in range(3):
    os.dup2(nothing, stream)
# Scanners import late, so scan a file of each kind before the children start; the last ones are genuine.
for path in {os.path.splitext(path)[1]: path for path in files}.values():
    try:
        scan(path)
    except BaseException:
        pass
codes = []
for path in files:
    child = os.fork()
    if child == 0:
        signal.alarm(300)
        scan(path)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os.write(output, json.dumps(codes).encode())
"""

File = collections.namedtuple("File", "kind name path loader")
FOUND, CLEAN, ERROR, REFUSED, UNKNOWN, WARNED = "found", "clean", "error", "refused", "unknown", "warned"


def environment():
    """Makes the environment of the scanners, once, and returns its Python."""
    wanted = [f"{name}=={version}" for name, version in PACKAGES.items()]
    python, done = HOME / "env" / "bin" / "python", HOME / "installed.txt"
    if not done.exists() or done.read_text().split() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", HOME / "env"], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        subprocess.run([*install, *wanted], check=True, stdout=sys.stderr)
        done.write_text("\n".join(wanted))
    return python


def in_python(python, code, arguments, value, folder):
    """Runs code that reads JSON and prints JSON."""
    quiet = {"PROMPTFOO_DISABLE_TELEMETRY": "1", "NO_COLOR": "1", "HOME": str(folder)}
    done = subprocess.run([python, "-W", "ignore", "-c", code, *arguments], input=json.dumps(value), text=True,
                          stdout=subprocess.PIPE, cwd=folder, env={**os.environ, **quiet}, check=True)
    return json.loads(done.stdout)


def attack_files(folder):
    """Writes the attack files."""
    files = []
    for number, (kind, name, extension, loader, data) in enumerate(ATTACKS):
        path = folder / f"{number:03}.{extension}"
        path.write_bytes(data)
        files.append(File(kind, name, str(path), loader))
    return files


def suite_files(folder):
    """Writes the dangerous pickles of fixtures/hostile, whose calls have no payload."""
    files = []
    for number, case in enumerate(json.loads((ROOT / "fixtures/hostile/cases.json").read_text())):
        if case["verdict"] == "dangerous":
            path = folder / f"suite_{number:03}.pkl"
            path.write_bytes(bytes.fromhex(case["pickle"]))
            suites = [f"the test suite of {name}" for name in PACKAGES if name in case["source"]]
            kind = " and ".join(suites) or "this project's list of dangerous calls"
            files.append(File(f"{kind}, no payload", case["name"], str(path), None))
    return files


def genuine_files():
    """Lists the fixtures that are genuine checkpoints."""
    files = []
    for kind, folders in GENUINE.items():
        for folder in folders:
            for path in sorted((ROOT / "fixtures" / folder).iterdir()):
                if path.is_file() and path.suffix not in OTHER and not path.name.startswith("x_"):
                    files.append(File(kind, f"{folder}/{path.name}", str(path), None))
    return files


def our_verdicts(binary, files):
    """Scans with ckpt2st."""
    words = {0: CLEAN, 1: REFUSED, 3: FOUND, 4: UNKNOWN}
    codes = [subprocess.run([binary, "scan", file.path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
             for file in files]
    return [words.get(done.returncode, ERROR) for done in codes]


def verdicts(python, name, files, folder):
    """Scans with another scanner."""
    paths = [file.path for file in files]
    codes = in_python(python, SCAN, [name.split()[0], *SCANNERS[name]], paths, folder)
    return [{0: CLEAN, 1: FOUND, 10: WARNED}.get(code, ERROR) for code in codes]


def title(binary, name):
    """Says which version a column is about."""
    if name == "ckpt2st":
        return subprocess.run([binary, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    command, *options = name.split()
    return " ".join([command, PACKAGES[command], *options])


def cell(words):
    """Says how many of a row were found, and what became of the others."""
    counts = collections.Counter(words)
    others = [f"{counts[word]} {word}" for word in (REFUSED, UNKNOWN, WARNED, ERROR) if counts[word]]
    return ", ".join([f"{counts[FOUND]} of {len(words)}", *others])


def table(heading, files, columns):
    """Prints a row for each kind, and one for all."""
    print(f"| {heading} | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    kinds = list(dict.fromkeys(file.kind for file in files))
    for kind in [*kinds, None]:
        row = [[word for file, word in zip(files, words) if kind in (file.kind, None)] for words in columns.values()]
        count = len(row[0])
        print(f"| {kind or 'all'} ({count} {'file' if count == 1 else 'files'}) | {' | '.join(map(cell, row))} |")
    print()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=ROOT / "target/release/ckpt2st", type=pathlib.Path)
    parser.add_argument("--prove", metavar="PYTHON", help="a Python with torch and numpy that opens the attack files")
    parser.add_argument("--only", choices=["ckpt2st", *SCANNERS], action="append", help="scan with these alone")
    parser.add_argument("--files", action="store_true", help="list every verdict on standard error")
    options = parser.parse_args()
    binary = options.binary.resolve(strict=True)
    names = options.only or ["ckpt2st", *SCANNERS]
    HOME.mkdir(parents=True, exist_ok=True)
    python = environment() if set(names) & set(SCANNERS) else None
    with tempfile.TemporaryDirectory(prefix="compare-") as folder:
        folder = pathlib.Path(folder)
        attacks = attack_files(folder)
        if options.prove:
            ran = in_python(options.prove, PROVE, [], [(file.path, file.loader) for file in attacks], folder)
            for file in attacks:
                if file.path not in ran:
                    print(f"payload did not run: {file.kind}: {file.name}", file=sys.stderr)
            attacks = [file for file in attacks if file.path in ran]
        attacks += suite_files(folder)
        genuine = genuine_files()
        columns = {}
        for name in names:
            files = attacks + genuine
            words = our_verdicts(binary, files) if name == "ckpt2st" else verdicts(python, name, files, folder)
            columns[title(binary, name)] = words
            if (folder / "ran").exists():
                print(f"{name} ran a payload", file=sys.stderr)
                (folder / "ran").unlink()
        if options.files:
            for file, *words in zip(attacks + genuine, *columns.values()):
                print(f"{file.kind}: {file.name}: {', '.join(words)}", file=sys.stderr)
    proven = ", each payload proven to run" if options.prove else ""
    print(f"Found, of files that run code{proven}:", end="\n\n")
    table("kind of attack", attacks, {name: words[:len(attacks)] for name, words in columns.items()})
    print("Called dangerous, of files that are genuine:", end="\n\n")
    table("genuine files", genuine, {name: words[len(attacks):] for name, words in columns.items()})


if __name__ == "__main__":
    sys.exit(main())
