"""How the fixtures_*.py scripts write their folders: command line, older versions of torch, manifest, README."""

import argparse
import os
import pathlib
import platform
import subprocess
import sys
import warnings

import torch

from fixture_book import FIXTURES, Book, check_versions, empty_folder, table_of_files, write_manifest
from fixture_networks import hide_paths

PINNED = {"torch": "2.15.0", "numpy": "2.4.6", "safetensors": "0.8.0"}
OLD_TORCH = pathlib.Path(__file__).resolve().parent / "fixtures_old_torch.py"

README = """# {title}

Everything here is written by `scripts/{script}`; edit that, not these files.

{commands}

Made with Python {python}, torch {torch}, numpy {numpy}, safetensors {safetensors}, on {machine}.{older}

The format of `manifest.json` and the meaning of the reference outputs are described in `fixtures/README.md`.

{notes}

Besides this page there are {count} files, {size} bytes in all.

| file | content |
|---|---|
{lines}
"""


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


def commands(script, older):
    """Give the command lines that make a folder, as a Markdown block."""
    pins = " ".join(f"{name}=={version}" for name, version in PINNED.items())
    lines = ["python3.11 -m venv venv", f"venv/bin/pip install {pins}"]
    run = f"venv/bin/python scripts/{script}"
    for torch_ in older:
        venv = f"venv-{torch_.version}"
        lines += [f"python3.11 -m venv {venv}", f"{venv}/bin/pip install torch=={torch_.version} 'numpy<2'"]
        run += f" {torch_.option} {venv}/bin/python"
    return "\n".join(f"    {line}" for line in [*lines, run])


def write_readme(book, script, title, notes, older):
    """Describe where the files come from and what each is for."""
    files = [path for path in book.folder.rglob("*") if path.is_file()]
    versions = " Files that say so are written by an older torch." if older else ""
    text = README.format(
        **PINNED, title=title, script=script, commands=commands(script, older), notes=notes.strip(), older=versions,
        python=platform.python_version(), machine=f"{platform.system()} {platform.machine()}", count=len(files),
        size=sum(path.stat().st_size for path in files), lines=table_of_files(book),
    )
    (book.folder / "README.md").write_text(text, encoding="utf-8")


def write_folder(script, folder, title, notes, makers, older=()):
    """Write a whole folder below fixtures/ with functions that take the book of cases."""
    if os.environ.get("PYTHONHASHSEED") != "0":  # scripted code holds constants in the order of a set
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})
    parser = argparse.ArgumentParser(description=title)
    for torch_ in older:
        parser.add_argument(torch_.option, required=True, metavar="PYTHON", help=torch_.help_text)
    given = vars(parser.parse_args())
    for torch_ in older:
        torch_.python = given[torch_.option.strip("-").replace("-", "_")]
    check_versions(PINNED)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    hide_paths()
    book = Book(FIXTURES / folder)
    empty_folder(book.folder)
    for make in makers:
        make(book)
    write_manifest(book)
    write_readme(book, script, title, notes, older)
    for path in book.folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


OLD = OlderTorch("--old-python", "1.13.1", "a Python with torch 1.13.1 and numpy 1.x")
MIDDLE = OlderTorch("--middle-python", "2.4.1", "a Python with torch 2.4.1 and numpy 1.x")
