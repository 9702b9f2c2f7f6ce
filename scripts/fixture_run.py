"""How the scripts that write fixtures run: command line, older versions of torch, versions, manifest, README."""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
import warnings

import torch

from fixture_book import FIXTURES, Book
from fixture_networks import hide_paths

PINNED = {"torch": "2.15.0", "numpy": "2.4.6", "safetensors": "0.8.0"}
OLD_TORCH = pathlib.Path(__file__).resolve().parent / "fixtures_old_torch.py"

README = """# {title}

Everything here is written by `scripts/{script}`; edit that, not these files.

{commands}

Made with Python {python}, torch {torch}, numpy {numpy}, safetensors {safetensors}, on {machine}.{older}

The format of `manifest.json` and the meaning of the reference outputs are described in `fixtures/README.md`.

{notes}

{total}

{files}
"""


# --- before and after a folder is written -----------------------------------------------------------------


def settle_hashes():
    """Start the script again with settled hashes, and with them a settled order of sets of text."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})


def check_versions(pinned):
    """Stop unless the installed packages are the pinned ones."""
    found = {name: importlib.metadata.version(name).split("+")[0] for name in pinned}
    if found != pinned:
        wanted = " ".join(f"{name}=={version}" for name, version in pinned.items())
        raise SystemExit(f"this needs {wanted}, found {found}")


def start(book, pinned):
    """Check the versions, settle torch and clear the book's folder."""
    check_versions(pinned)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    book.clear()


def finish(book, readme, pinned, **facts):
    """Write the manifest and the README, a template for facts, and give every file its usual mode."""
    text = json.dumps({"cases": book.cases}, indent=1, ensure_ascii=False)
    (book.folder / "manifest.json").write_text(text + "\n", encoding="utf-8")
    files = [path for path in book.paths() if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    text = readme.format(
        **pinned, **facts, python=platform.python_version(), machine=f"{platform.system()} {platform.machine()}",
        total=f"Besides this page there are {len(files)} files, {size} bytes in all.", files=table_of_files(book),
    )
    (book.folder / "README.md").write_text(text, encoding="utf-8")
    for path in book.paths():
        path.chmod(0o755 if path.is_dir() else 0o644)


def table_of_files(book):
    """Give a Markdown table with a line for every file of the book."""
    lines = [f"| `{file}` | {about.rstrip(',')} |" for file, about in sorted(book.about.items())]
    return "\n".join(["| file | content |", "|---|---|", *lines])


def commands(script, pinned, older=()):
    """Give the command lines that make a folder, as a Markdown block."""
    pins = [f"{name}=={version}" for name, version in pinned.items()]
    rows = [" ".join(pins[i:i + 4]) for i in range(0, len(pins), 4)]
    lines = ["python3.11 -m venv venv", "venv/bin/pip install " + " \\\n        ".join(rows)]
    run = f"venv/bin/python scripts/{script}"
    for torch_ in older:
        venv = f"venv-{torch_.version}"
        lines += [f"python3.11 -m venv {venv}", f"{venv}/bin/pip install torch=={torch_.version} 'numpy<2'"]
        run += f" {torch_.option} {venv}/bin/python"
    return "\n".join(f"    {line}" for line in [*lines, run])


# --- folders that need no more than torch, or older versions of it ------------------------------------------


class OlderTorch:
    """A Python with an older torch, which writes inputs by scripts/fixtures_old_torch.py."""

    def __init__(self, option, version, help_text):
        self.option, self.version, self.help_text = option, version, help_text
        self.python = None

    def write(self, book, topic, about):
        """Let the older torch write the files of a topic, given as name to description."""
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "ignore"}
        subprocess.run([self.python, OLD_TORCH, book.folder, topic, self.version], check=True, env=environment)
        for file, text in about.items():
            assert (book.folder / file).exists(), file
            book.about[file] = f"{text}, by torch {self.version}"


def write_folder(script, folder, title, notes, makers, older=()):
    """Write a whole folder below fixtures/ with functions that take the book of cases."""
    settle_hashes()  # scripted code holds constants in the order of a set
    parser = argparse.ArgumentParser(description=title)
    for torch_ in older:
        parser.add_argument(torch_.option, required=True, metavar="PYTHON", help=torch_.help_text)
    given = vars(parser.parse_args())
    for torch_ in older:
        torch_.python = given[torch_.option.strip("-").replace("-", "_")]
    book = Book(FIXTURES / folder)
    start(book, PINNED)
    hide_paths()
    for make in makers:
        make(book)
    finish(book, README, PINNED, title=title, script=script, commands=commands(script, PINNED, older),
           notes=notes.strip(), older=" Files that say so are written by an older torch." if older else "")


OLD = OlderTorch("--old-python", "1.13.1", "a Python with torch 1.13.1 and numpy 1.x")
MIDDLE = OlderTorch("--middle-python", "2.4.1", "a Python with torch 2.4.1 and numpy 1.x")
