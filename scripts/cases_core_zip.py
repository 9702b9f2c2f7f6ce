"""The part of make_fixtures.py about zip files that are unusual or damaged."""

import zipfile

import numpy
import torch
from torch.utils.serialization import config as torch_config

from fixture_book import count, cut, normal, records, rezip


def zip_source(book):
    """Save the checkpoint that the unusual and damaged zip files are made of."""
    tensors = {
        "weight": normal(8, 16), "bias": normal(8, dtype=torch.float16), "double": normal(3, dtype=torch.float64),
        "steps": torch.tensor([1, 2**40]), "mask": torch.tensor([True, False, True]),
        "brain": normal(5, dtype=torch.bfloat16),
        "wave": torch.complex(normal(2), normal(2, seed=1)), "bytes": torch.tensor([1, 2, 3], dtype=torch.int8),
        "view": count(10)[2:7], "none": torch.zeros(0, 4),
    }
    book.save("zip.pt", "the checkpoint that the zip_* and some x_* files are made of", tensors)
    book.expect("the plain zip is read", "zip.pt", book.load("zip.pt"))
    return [4, 2, 8, 8, 1, 2, 4, 1, 4, 4]


def swapped(parts, sizes):
    """Swap the bytes of every storage in units of its number size and declare them big-endian."""
    made = dict(parts)
    for i, size in enumerate(sizes):
        key = f"data/{i}"
        made[key] = numpy.frombuffer(parts[key], dtype=f"u{size}").byteswap().tobytes()
    made["byteorder"] = b"big"
    return made


def zip_cases(book, sizes):
    """Zip files that are unusual but good."""
    parts = records(book.folder / "zip.pt")
    old = {name: parts[name] for name in parts if name == "data.pkl" or name.startswith("data/") or name == "version"}
    made = [
        ("zip_deflated.pt", "every entry deflated", rezip(parts, method=zipfile.ZIP_DEFLATED)),
        ("zip_prefix.pt", "another prefix, with a dot and a space", rezip(parts, prefix="my model.v1")),
        ("zip_folder.pt", "a leading directory entry", rezip(parts, folder_entry=True)),
        ("zip_old.pt", "only data.pkl, storages and version, as old writers made it", rezip(old)),
        ("zip_big_endian.pt", "big-endian storages", rezip(swapped(parts, sizes))),
    ]
    for file, about, data in made:
        book.write(file, f"zip.pt re-zipped: {about}", data)
        book.expect(f"a zip with {about}", file, book.load(file), "zip.safetensors")
    with torch_config.patch({"save.storage_alignment": 4096}):
        book.save("zip_aligned.pt", "storages aligned to 4096 bytes", {"weight": normal(2, 3)})
    torch.serialization.set_crc32_options(False)
    book.save("zip_no_crc.pt", "saved without CRC-32: every such field is 0", book.load("zip.pt"))
    torch.serialization.set_crc32_options(True)
    book.expect("storages aligned to 4096 bytes are found", "zip_aligned.pt", book.load("zip_aligned.pt"))
    book.expect("a zip without checksums is read", "zip_no_crc.pt", book.load("zip_no_crc.pt"), "zip.safetensors")


def damaged_cases(book):
    """Zip files with parts cut, missing or changed."""
    good, parts = (book.folder / "zip.pt").read_bytes(), records(book.folder / "zip.pt")
    start = good.index(parts["data/0"])
    flipped = good[:start + 100] + bytes([good[start + 100] ^ 0x10]) + good[start + 101:]
    made = [
        ("x_truncated.pt", "zip.pt cut at 60 %", cut(good), ["truncated", "missing"]),
        ("x_short_record.pt", "zip.pt with a storage record shorter than its tensor",
         rezip({**parts, "data/0": parts["data/0"][:-8]}),
         ["data/0"]),
        ("x_missing_record.pt", "zip.pt without the record data/0",
         rezip({k: v for k, v in parts.items() if k != "data/0"}),
         ["data/0"]),
        ("x_crc.pt", "zip.pt with one bit of a storage flipped", flipped, ["CRC"]),
    ]
    for file, about, data, mentions in made:
        book.write(file, about, data)
        book.fail(f"{about}: refused", file, "corrupt", mentions)


def untyped_case(book):
    """A tensor whose storage is saved without a type."""
    book.save("dtypes_v3.pt", "a uint16 tensor, saved through an untyped storage",
              {"wide": torch.tensor([1, 513], dtype=torch.uint16)})
    book.expect("a tensor over an untyped storage is read", "dtypes_v3.pt", book.load("dtypes_v3.pt"))
    file, about = "x_big_endian_v3.pt", "big-endian storages of a dtype that torch does not swap"
    book.write(file, about, rezip({**records(book.folder / "dtypes_v3.pt"), "byteorder": b"big"}))
    book.fail(f"{about}: refused", file, "unsupported", ["wide"])
