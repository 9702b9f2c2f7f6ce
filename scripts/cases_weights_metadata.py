"""The part of fixtures_weights.py about metadata of the user's own, and about hashes."""

import hashlib

import safetensors.torch
import torch

from cases_weights_book import cast_all, with_metadata
from fixture_book import count, normal, plain, small_weights


def options(metadata):
    """Give the options for some metadata."""
    return [part for key, value in metadata.items() for part in ("--metadata", f"{key}={value}")]


# --- --metadata -------------------------------------------------------------------------------------------


def metadata_cases(book):
    """Keys and values of many kinds."""
    file, tensors = "meta_small.pt", small_weights()
    book.save(file, "a small state dict", {"state_dict": tensors})
    made = [
        ("one", {"author": "me"}),
        ("several, sorted in the file", {"zeta": "1", "author": "me", "Big": "x", "a.b": "y"}),
        ("a value with equals signs", {"formula": "a=b=c", "end": "="}), ("an empty value", {"note": ""}),
        ("Unicode in key and value", {"größe": "重み 🙂", "\u2028": "\x7f", "é": "e\u0301"}),
        ("quotes, backslashes and control characters",
         {"quote\"d": "a\"b\\c", "line": "a\nb\tc\x01", "sl/ash": "</x>"}),
        ("JSON as a value", {"config": '{"lr": 0.1, "tags": ["a", null]}'}),
        ("blanks are kept", {" key ": " value "}), ("names of tensors", {"layer.weight": "w", "layer": "x"}),
        ("keys that look like the format's own", {"Format": "tf", "format ": "x", "dtype": "F32", "__metadata__": "m"}),
        ("a value that starts with a dash", {"note": "--dtype"}), ("a long value", {"long": "x" * 5000}),
    ]
    for i, (about, metadata) in enumerate(made):
        book.expect_metadata(f"--metadata: {about}", file, tensors, metadata, f"meta_small.{i:02}.safetensors",
                             options(metadata))
    book.expect_metadata("--metadata beside a cast", file, cast_all(tensors, "fp16"), {"author": "me"},
                         "meta_small.fp16.safetensors", ["--fp16", "--metadata", "author=me"])
    for about, text, mentions in (("without an equals sign", "author", ["author"]), ("without a key", "=x", ["=x"]),
                                  ("that is empty", "", ["--metadata"]), ("that sets format", "format=tf", ["format"]),
                                  ("that sets format to what it is", "format=pt", ["format"]),
                                  ("that empties format", "format=", ["format"])):
        book.refuse(f"--metadata {about}", file, ["--metadata", *mentions], [f"--metadata={text}"])


# --- --hash -----------------------------------------------------------------------------------------------


def behind_header(data):
    """Give what follows the header of a file of safetensors."""
    return data[8 + int.from_bytes(data[:8], "little"):]


def hashes(tensors, metadata):
    """Compute what kohya's scripts and ModelSpec write about these tensors and this metadata."""
    training = {key: value for key, value in metadata.items() if key.startswith("ss_")}
    data = safetensors.torch.save(tensors, metadata=training)
    whole = hashlib.sha256(behind_header(data)).hexdigest()
    window = hashlib.sha256(data[0x100000:0x100000 + 0x10000]).hexdigest()
    return {"sshs_model_hash": whole, "sshs_legacy_hash": window[:8], "modelspec.hash_sha256": f"0x{whole}"}


def expect_hashes(book, name, file, tensors, output, metadata=(), args=(), records=()):
    """Record the three hashes, and A1111's short hash of the whole file in the summary."""
    tensors, metadata = {key: plain(tensor) for key, tensor in tensors.items()}, dict(metadata)
    keys = {**metadata, **dict(records), **hashes(tensors, metadata)}
    short = hashlib.sha256(with_metadata(tensors, keys)).hexdigest()[:10]
    book.expect_metadata(name, file, tensors, keys, output, ["--hash", *options(metadata), *args], [short])
    return keys


def hash_cases(book):
    """Hashes of small files, whose legacy hash is that of nothing, and of one that is large enough."""
    file, tensors = "meta_small.pt", book.load("meta_small.pt")["state_dict"]
    keys = expect_hashes(book, "--hash of a small file", file, tensors, "meta_hash.safetensors")
    assert keys["sshs_legacy_hash"] == hashlib.sha256(b"").hexdigest()[:8]
    training = {"ss_tag": "x", "ss_epoch": "3", "title": "not in the legacy hash", "ssx": "neither"}
    other = expect_hashes(book, "--hash beside metadata", file, tensors, "meta_hash.training.safetensors", training)
    assert other["sshs_model_hash"] == keys["sshs_model_hash"]
    expect_hashes(book, "--hash after a cast", file, cast_all(tensors, "bf16"), "meta_hash.bf16.safetensors",
                  args=["--bf16"])
    expect_hashes(book, "--hash of other names", file, {f"x.{name}": tensor for name, tensor in tensors.items()},
                  "meta_hash.names.safetensors", args=["--rename", "^=>x."])
    weight = normal(6, 4)
    book.save("meta_tied.pt", "a tie, a transposed matrix, several dtypes", {
        "b": weight, "a": weight, "t": count(3, 5).t(), "half": normal(3, seed=1).half(), "n": torch.tensor(4)})
    loaded = book.load("meta_tied.pt")
    expect_hashes(book, "--hash of ties that are copied", "meta_tied.pt", loaded, "meta_tied.hash.safetensors")
    kept = {name: tensor for name, tensor in loaded.items() if name != "b"}
    expect_hashes(book, "--hash of ties that are recorded", "meta_tied.pt", kept, "meta_tied.alias.safetensors",
                  args=["--ties", "alias"], records={"b": "a"})
    rows = {"big": (count(509) * 0.5 - 100).expand(530, 509), "z": normal(3)}
    book.save("meta_big.pt", "a row that is repeated to 1.08 MB: small as a checkpoint, not as safetensors", rows)
    keys = expect_hashes(book, "--hash of a file that reaches into the legacy hash's window", "meta_big.pt", rows,
                         "meta_big.safetensors", {"ss_tag": "a" * 50, "title": "b" * 101})
    data = {key: plain(tensor) for key, tensor in rows.items()}
    windows = {hashlib.sha256(safetensors.torch.save(data, metadata=made)[0x100000:0x110000]).hexdigest()[:8]
               for made in (None, {}, {"ss_tag": "a" * 50}, {"title": "b" * 101}, {"format": "pt"})}
    assert len(windows) >= 4 and keys["sshs_legacy_hash"] in windows


METADATA = [metadata_cases, hash_cases]
