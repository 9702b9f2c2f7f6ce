#!/usr/bin/env python3
"""Fill fuzz/corpus/ from fixtures/: the inputs that each fuzz target starts from (see README.md).

    python3 fuzz/seed.py

Needs nothing but Python. What is there already stays.
"""

import gzip
import hashlib
import io
import json
import pickletools
import tarfile
import zipfile
from pathlib import Path

FUZZ = Path(__file__).resolve().parent
FIXTURES = FUZZ.parent / "fixtures"
CORPUS = FUZZ / "corpus"
SEPARATOR = b"\n----\n"
LARGEST = 64 * 1024
CHECKPOINTS = {".pt", ".ckpt", ".pth", ".pt2", ".ptl", ".bin", ".gz", ".distcp"}
OPTIONS = 24
FORMS = ["pickle", "zip", "legacy", "tar", "gzip", "exported"]


def add(target, *pieces):
    """Write one input."""
    content = b"".join(pieces)
    if len(content) <= LARGEST:
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / hashlib.sha1(content).hexdigest()).write_bytes(content)
        if target in FORMS:
            # A pickle is a file by itself, without the byte for its offset.
            add("scan", bytes([FORMS.index(target)]), content[target == "pickle":])


def pickle_end(content, at=0):
    """Give the offset behind the pickle at an offset."""
    stream = io.BytesIO(content)
    stream.seek(at)
    for _ in pickletools.genops(stream):
        pass
    return stream.tell()


def add_checkpoint(how, body):
    """Write inputs for the whole conversion: with the defaults, and with a few options each."""
    for options in ([0] * 8, [3, 0, 200], [0, 1, 0, 2, 1], [0, 2, 1, 1, 0], [0, 3, 0, 0, 2], [0, 0, 0, 0, 0, 3, 1]):
        add("checkpoint", bytes([how, *options]).ljust(OPTIONS, b"\0"), body)


def add_zip(content):
    """Write the inputs that a zip archive is good for."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        entries = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # damaged on purpose
        return
    inside = {name.split("/", 1)[-1]: data for name, data in entries.items()}
    if "data.pkl" in inside:
        add("pickle", b"\0", inside["data.pkl"])
        numbers = [int(name[5:]) for name in inside if name.startswith("data/") and name[5:].isdigit()]
        storages = [inside.get(f"data/{number}", b"") for number in range(max(numbers, default=-1) + 1)]
        body = SEPARATOR.join([inside["data.pkl"], *storages])
        add("zip", b"\1\0\0\0", body)
        add("zip", b"\1\1\0\1\0\7\4", body)
        add("gzip", b"\2", body)
        add_checkpoint(4, body)
        if "constants.pkl" in inside:
            code = b"\n".join(data for name, data in inside.items() if name.endswith(".py"))
            script = [inside["data.pkl"], inside["constants.pkl"], code, inside.get("constants/0", b""), *storages]
            add("zip", b"\1\0\1\0", SEPARATOR.join(script))
    for name, data in entries.items():
        if name.endswith("_weights_config.json"):
            weights = [entries[other] for other in sorted(entries) if "data/weights/weight_" in other]
            samples = [entries[other] for other in entries if "sample_inputs" in other][:1] or [b""]
            add("exported", b"\0\0", SEPARATOR.join([data, *samples, *weights]))
        if name.startswith("serialized_state_dict."):
            add("exported", b"\0\1", data)
            add("exported", b"\1\1", data)


def add_legacy(content):
    """Write the inputs that a legacy stream is good for: what stands behind its first three pickles."""
    try:
        at = 0
        for _ in range(3):
            at = pickle_end(content, at)
        add("pickle", b"\0", content[at:pickle_end(content, at)])
    except Exception:  # damaged on purpose
        return
    add("legacy", b"\1", content[at:])
    add("gzip", b"\1", content[at:])
    add_checkpoint(1, content[at:])


def add_tar(content):
    """Write the members of a tar."""
    try:
        archive = tarfile.open(fileobj=io.BytesIO(content))
        members = [archive.extractfile(name).read() for name in ("storages", "tensors", "pickle")]
    except Exception:  # damaged on purpose, or another one
        return
    add("tar", b"\1", SEPARATOR.join(members))


def add_file(path):
    """Write the inputs that a checkpoint of one file is good for."""
    content = path.read_bytes()
    add_checkpoint(0, content)
    add("scan", b"\0", content)
    if content.startswith(b"PK"):
        add("zip", b"\0", content)
        add_zip(content)
    elif content.startswith(b"\x1f\x8b"):
        add("gzip", b"\0", content)
        try:
            add("gzip", b"\3", gzip.decompress(content))
        except Exception:  # damaged on purpose
            pass
    elif content[257:262] == b"ustar":
        add("tar", b"\0", content)
        add_tar(content)
    else:
        add("legacy", b"\0", content)
        add_legacy(content)


def add_shards(path):
    """Write the index of shards and the first of them, renamed as the target names them."""
    try:
        index = json.loads(path.read_bytes())
        files = sorted(set(index["weight_map"].values()))[:3]
        names = dict(zip(files, "abc"))
        index["weight_map"] = {name: names.get(file, file) for name, file in index["weight_map"].items()}
        shards = [(path.parent / file).read_bytes() for file in files]
    except Exception:  # damaged on purpose
        add("shards", b"\0\0", path.read_bytes())
        return
    for options in (b"\0\0", b"\3\0\1\1"):
        add("shards", options, SEPARATOR.join([json.dumps(index).encode(), *shards]))


def add_distributed(path):
    """Write the metadata of a distributed checkpoint and the files of its ranks."""
    files = sorted(path.parent.glob("*.distcp"))[:3]
    add("pickle", b"\0", path.read_bytes())
    add("distributed", b"\0\0", SEPARATOR.join(file.read_bytes() for file in [path, *files]))


def add_safetensors(path):
    """Write the header and the data of a safetensors file."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    add("safetensors", content[8:end], SEPARATOR, content[end:])


def main():
    """Look at every fixture."""
    for path in sorted(FIXTURES.rglob("*")):
        if not path.is_file() or path.stat().st_size > LARGEST:
            continue
        if path.suffix == ".pkl":
            add("pickle", b"\0", path.read_bytes())
        elif path.suffix in CHECKPOINTS:
            add_file(path)
        elif path.suffix == ".safetensors":
            add_safetensors(path)
        elif path.name.endswith(".index.json") and path.name.startswith(("pytorch", "diffusion")):
            add_shards(path)
        elif path.name == ".metadata":
            add_distributed(path)
    # Drawn from bytes: any will do.
    for number in range(64):
        add("safetensors", b"=", bytes([number % 9]), hashlib.sha256(b"%d" % number).digest())
        add("header", b"".join(hashlib.sha256(b"%d %d" % (number, part)).digest() for part in range(number % 8 + 1)))
    for folder in sorted(CORPUS.iterdir()):
        print(f"{folder.name}: {len(list(folder.iterdir()))} inputs")


if __name__ == "__main__":
    main()
