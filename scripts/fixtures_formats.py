#!/usr/bin/env python3
"""Write fixtures/formats/: unusual zip files, and files that are no checkpoints (see that folder's README.md)."""

import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy
import safetensors.torch
import torch

from fixture_book import cut, normal, records, rezip, small_weights, zip_info
from fixture_run import write_folder

NOTES = """
**Reference outputs** hold the tensors that `torch.load` gives. torch 2.15 refuses `record_longer.pt`, which
torch 1.13.1 loads: there the tensors that were saved are the reference. Files of other programs are made by hand, no
larger than a reader needs to tell what they are, and have the misleading extension `.pt` or `.bin`. Running the script
twice gives the same bytes."""


# --- zip files ------------------------------------------------------------------------------------------------


def make_zip(parts, deflated=(), folders=()):
    """Write records into a zip, some of them deflated, after entries for folders."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in folders:
            archive.writestr(zip_info(name), b"")
        for name, data in parts.items():
            method = zipfile.ZIP_DEFLATED if name in deflated else zipfile.ZIP_STORED
            archive.writestr(zip_info(f"archive/{name}", method), data)
    return made.getvalue()


def encrypted(data):
    """Set the flag for encryption on every entry of a zip."""
    made = bytearray(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        made_of = archive.infolist()
        central = archive.start_dir
    for info in made_of:
        made[info.header_offset + 6] |= 1
        assert made[central:central + 4] == b"PK\x01\x02"
        made[central + 8] |= 1
        name, extra, comment = struct.unpack_from("<3H", made, central + 28)
        central += 46 + name + extra + comment
    return bytes(made)


def zip_cases(book):
    """Zip files that are unusual but good."""
    book.save("zip.pt", "the checkpoint that the zip files here are made of", small_weights())
    parts, saved = records(book.folder / "zip.pt"), book.load("zip.pt")
    book.expect("the plain zip", "zip.pt", saved)
    moved = {".data/version" if name == "version" else name: data for name, data in parts.items()}
    made = [
        ("folders.pt", "entries for every folder", make_zip(parts, folders=["archive/", "archive/data/"])),
        ("data_version.pt", "its version in .data/version", make_zip({**moved, ".data/version": b"6\n"})),
        ("deflated_pickle.pt", "data.pkl alone deflated", make_zip(parts, deflated=["data.pkl"])),
        ("deflated_storage.pt", "one storage alone deflated", make_zip(parts, deflated=["data/0"])),
        ("version_first.pt", "its version first, as early writers put it",
         make_zip({"version": b"2\n", "data.pkl": parts["data.pkl"],
                   **{name: parts[name] for name in parts if name.startswith("data/")}})),
    ]
    for file, about, data in made:
        book.write(file, f"zip.pt re-zipped, with {about}", data)
        book.expect(f"a zip with {about}", file, book.load(file), "zip.safetensors")
    book.save("twenty_one_characters.pt", "a prefix of 21 characters, so that the first central entry is as long as "
              "the zip64 records at the end", saved)
    book.expect("a zip in which the first central entry could be mistaken for bytes before the archive",
                "twenty_one_characters.pt", book.load("twenty_one_characters.pt"), "zip.safetensors")
    book.write("record_longer.pt", "zip.pt re-zipped, with a record longer than its storage",
               make_zip({**parts, "data/0": parts["data/0"] + bytes(16)}))
    book.expect("a record longer than its storage is read with a warning", "record_longer.pt", saved,
                "zip.safetensors", mentions=["larger"])


def protocol_cases(book):
    """The pickle protocols that the other checkpoints leave out."""
    book.save("protocol_1.pt", "a zip checkpoint in pickle protocol 1", OrderedDict(
        small_weights(), mask=torch.tensor([True, False]), scalar=torch.tensor(3)), pickle_protocol=1)
    book.expect("a zip checkpoint in pickle protocol 1", "protocol_1.pt", book.load("protocol_1.pt"))
    book.save("x_protocol_0.pt", "a zip checkpoint in pickle protocol 0", small_weights(), pickle_protocol=0)
    book.fail("a zip checkpoint in pickle protocol 0 is refused, as torch does", "x_protocol_0.pt", "unsupported",
              ["protocol 0"])


def zip_failures(book):
    """Zip files that are refused."""
    good = (book.folder / "zip.pt").read_bytes()
    outer = io.BytesIO()
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr(zip_info("download/model.pt"), good)
        archive.writestr(zip_info("download/readme.txt"), "the model\n")
    keras = {"config.json": b'{"module": "keras"}', "metadata.json": b'{"keras_version": "3.3.3"}',
             "model.weights.h5": b"\x89HDF\r\n\x1a\n" + bytes(88)}
    flat = io.BytesIO()
    with zipfile.ZipFile(flat, "w") as archive:
        for name, data in keras.items():
            archive.writestr(zip_info(name), data)
    npz = io.BytesIO()
    with zipfile.ZipFile(npz, "w") as archive:
        for name in ("weight", "bias"):
            archive.writestr(zip_info(f"{name}.npy"), npy(numpy.arange(3, dtype="f4")))
    made = [
        ("x_inside_zip.pt", "a plain zip that holds a checkpoint", outer.getvalue(), "not a checkpoint", ["unpack"]),
        ("x_password.pt", "a zip with a password", encrypted(rezip(records(book.folder / "zip.pt"))), "unsupported",
         ["password"]),
        ("x_cut.pt", "a zip checkpoint cut at 60 %", cut(good), "corrupt", ["truncated", "missing"]),
        ("x_keras.pt", "a Keras 3 archive", flat.getvalue(), "not a checkpoint", ["Keras"]),
        ("x_npz.pt", "a numpy archive", npz.getvalue(), "not a checkpoint", ["numpy"]),
    ]
    for file, about, data, error, mentions in made:
        book.write(file, about, data)
        book.fail(f"{about}: refused", file, error, mentions)


# --- files of other programs ------------------------------------------------------------------------------------


def npy(array):
    """Give the bytes of a .npy file."""
    made = io.BytesIO()
    numpy.save(made, array)
    return made.getvalue()


def gguf():
    """Give a GGUF file of version 3 with one tensor and no metadata."""
    name = b"weight"
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 0)
    tensor = struct.pack("<Q", len(name)) + name + struct.pack("<IQIQ", 1, 8, 0, 0)
    start = -len(head + tensor) % 32
    return head + tensor + bytes(start) + struct.pack("<8f", *range(8))


def field(number, value):
    """Give a field of a protocol buffer: a number, bytes, or a string."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    value = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2, len(value)]) + value


def onnx():
    """Give an ONNX model as torch.onnx writes it: one Identity and one initializer."""
    def vector(name):
        shape = field(1, field(1, 2))
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))

    node = field(1, "x") + field(2, "y") + field(4, "Identity")
    weight = field(1, 2) + field(2, 1) + field(8, "weight") + field(9, struct.pack("<2f", 1, 2))
    graph = field(1, node) + field(2, "main_graph") + field(5, weight) + field(11, vector("x")) + field(12, vector("y"))
    opset = field(1, "") + field(2, 17)
    return field(1, 8) + field(2, "pytorch") + field(3, "2.1.0") + field(7, graph) + field(8, opset)


def other_files(book):
    """Files of other programs under the names of checkpoints."""
    tensors = safetensors.torch.save({"weight": normal(2, 2)}, metadata={"format": "pt"})
    lists = {"weight": [[0.5, 1.5], [2.5, 3.5]], "bias": [0.0, 1.0], "epoch": 3}
    made = [
        ("x_safetensors.pt", "a safetensors file", tensors, ["safetensors"]),
        ("x_gguf.pt", "a GGUF file", gguf(), ["GGUF"]),
        ("x_onnx.pt", "an ONNX model", onnx(), ["ONNX"]),
        ("x_hdf5.bin", "an HDF5 file", b"\x89HDF\r\n\x1a\n" + bytes(504), ["HDF5"]),
        ("x_7z.pt", "a 7z archive", b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(56), ["7z"]),
        ("x_rar4.pt", "a RAR 4 archive", b"Rar!\x1a\x07\x00" + bytes(57), ["RAR"]),
        ("x_rar5.pt", "a RAR 5 archive", b"Rar!\x1a\x07\x01\x00" + bytes(56), ["RAR"]),
        ("x_npy.pt", "a numpy array", npy(numpy.arange(6, dtype="f4").reshape(2, 3)), ["numpy"]),
        ("x_preview.pt", "the container that came before the zip", b"PYTORCH1" + bytes(56), ["preview"]),
        ("x_json.pt", "a JSON text", json.dumps({"architectures": ["LlamaForCausalLM"]}).encode(),
         ["not a checkpoint", "text"]),
        ("x_zeros.pt", "zeros", bytes(1024), ["zeros"]),
        *((f"x_pickle_{protocol}.bin", f"a plain pickle of protocol {protocol}", pickle.dumps(lists, protocol),
           ["pickle"]) for protocol in (2, 4)),
    ]
    for file, about, data, mentions in made:
        book.write(file, about, data)
        book.fail(f"{about}: refused", file, "not a checkpoint", mentions)


if __name__ == "__main__":
    write_folder("fixtures_formats.py", "formats", "Fixtures: unusual zip files, and files that are no checkpoints",
                 NOTES, [zip_cases, protocol_cases, zip_failures, other_files])
