#!/usr/bin/env python3
"""Write fixtures/genuine/: which globals real libraries name in the pickles they write.

    python3.11 -m venv venv
    venv/bin/pip install torch==2.15.0 numpy==2.4.6 lightning==2.6.6 omegaconf==2.4.0 timm==1.0.31 \
        transformers==5.23.0 accelerate==1.15.0 diffusers==0.42.1 ema-pytorch==0.8.3 ultralytics==8.4.190 \
        pandas==3.1.1 scikit-learn==1.9.1 hydra-core==1.3.8 torchvision==0.29.2 torchmetrics==1.9.0
    venv/bin/python scripts/list_genuine.py

Run it once more with an older torch (1.13.1 with numpy 1.26.4, 2.4.1 with numpy 1.26.4); what it finds is added to
globals.json under that version. Producers whose library is missing are left as they were. Nothing is downloaded.
The version of every producer stands beside its globals. With --keep FOLDER every pickle is written there too.
"""

import argparse
import importlib.metadata
import io
import json
import os
import pickle
import pickletools
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

WORK = tempfile.mkdtemp()
os.environ.update({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1",
                   "YOLO_CONFIG_DIR": WORK, "YOLO_OFFLINE": "1", "YOLO_VERBOSE": "false", "WANDB_MODE": "disabled"})
sys.path.insert(0, str(Path(__file__).parent))
FIXTURES = Path(__file__).parent.parent / "fixtures"
README = """# What real libraries write

Everything here is written by `scripts/list_genuine.py`, which names the versions; edit that, not these files.

**`globals.json`** has a row for each pickle that was looked at: `producer`, `version`, `what` was saved, and the
`globals` that the pickle names, each a module and a name with a space between. The rows of torch, numpy and Python
occur once for each version that was used.

**`*.pkl`** are pickles that show how a global is used, as they stood in the file: `data.pkl` of an archive of
`torch.save`, or a bare pickle of Python.

`tests/it/verdicts.rs` asserts that none of it is called dangerous.
"""
# Pickles above this size are listed, not kept.
MAX_PICKLE = 20_000


def pickles(content):
    """Every pickle of a file of torch.save or pickle.dump."""
    if content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return [archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")]
    found, stream = [], io.BytesIO(content)
    while stream.tell() < len(content):
        start = stream.tell()
        try:
            for _ in pickletools.genops(stream):
                pass
        except Exception:
            break  # the storages behind a legacy file's pickles
        found.append(content[start:stream.tell()])
    return found


def named(pickled):
    """The globals of one pickle, each once, in the order of their names. Strings reach STACK_GLOBAL from the stack
    or the memo, as CPython's pickler writes them."""
    found, memo, texts, last = set(), {}, [], None
    for op, arg, _ in pickletools.genops(pickled):
        if op.name in ("GLOBAL", "INST"):
            found.add(tuple(arg.split(" ", 1)))
        elif op.name == "STACK_GLOBAL":
            found.add((texts[-2], texts[-1]))
        elif op.name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            memo[len(memo) if arg is None else arg] = last
            continue
        elif op.name in ("GET", "BINGET", "LONG_BINGET"):
            arg = memo.get(arg)
        last = arg if isinstance(arg, str) else None
        if last is not None:
            texts.append(last)
    return sorted(f"{module} {name}" for module, name in found)


class Book:
    def __init__(self, keep):
        self.rows, self.keep = [], keep
        if keep:
            keep.mkdir(parents=True, exist_ok=True)

    def add(self, producer, what, content, pattern=None):
        """`pattern` names the file in which the pickle itself is kept, for how it uses a global."""
        version = importlib.metadata.version(producer) if producer != "python" else sys.version.split()[0]
        found = pickles(content)
        names = sorted(set().union(*(named(one) for one in found)))
        if not names:
            return
        self.rows.append({"producer": producer, "version": version, "what": what, "globals": names})
        main = max(found, key=len)
        if self.keep:
            slug = "".join(c if c.isalnum() else "_" for c in f"{producer}_{version}_{what}")
            (self.keep / f"{slug}.pkl").write_bytes(main)
            (self.keep / f"{slug}.pt").write_bytes(content)
        if pattern:
            assert len(main) <= MAX_PICKLE, (pattern, len(main))
            (FIXTURES / "genuine" / f"{pattern}.pkl").write_bytes(main)

    def save(self, producer, what, value, pattern=None, **options):
        import torch
        buffer = io.BytesIO()
        torch.save(value, buffer, **options)
        self.add(producer, what, buffer.getvalue(), pattern)

    def dump(self, producer, what, value, pattern=None, protocol=4):
        self.add(producer, what, pickle.dumps(value, protocol=protocol), pattern)

    def file(self, producer, what, path, pattern=None):
        self.add(producer, what, Path(path).read_bytes(), pattern)

    def write(self, path):
        """Rows of other versions and of producers that are not installed here stay."""
        old = json.loads(path.read_text()) if path.exists() else []
        mine = {(row["producer"], row["version"], row["what"]) for row in self.rows}
        rows = [row for row in old if (row["producer"], row["version"], row["what"]) not in mine] + self.rows
        rows.sort(key=lambda row: (row["producer"], row["version"], row["what"]))
        text = ",\n".join(json.dumps(row) for row in rows)
        path.write_text(f"[\n{text}\n]\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", type=Path)
    (FIXTURES / "genuine").mkdir(exist_ok=True)
    book = Book(parser.parse_args().keep)
    import genuine_frameworks
    import genuine_torch
    for module in (genuine_torch, genuine_frameworks):
        for case in module.CASES:
            try:
                case(book, Path(WORK))
            except Exception as error:  # a library that is missing, or too old for the case
                print(f"{case.__name__}: ended early, {type(error).__name__}: {error}", file=sys.stderr)
    book.write(FIXTURES / "genuine" / "globals.json")
    (FIXTURES / "genuine" / "README.md").write_text(README)
    shutil.rmtree(WORK)
    print(f"{len(book.rows)} pickles, {len(set().union(*(row['globals'] for row in book.rows)))} globals")


if __name__ == "__main__":
    main()
