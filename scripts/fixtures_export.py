#!/usr/bin/env python3
"""Write fixtures/export/: programs of torch.export, and packages of torch.package (see that folder's README.md)."""

import io
import json
import zipfile

import torch
import torch.package

from fixture_book import from_bits, normal, records, rezip, zip_info
from fixture_networks import Exported, exported, settle
from fixture_run import MIDDLE, write_folder

NOTES = """
**Reference outputs** hold what `torch.export.load(file).state_dict` gives, which leaves out the
non-persistent buffers and the constants. torch 2.15 refuses the schema of the flat zips: there, what `torch.load`
makes of the record with the state dict is the reference. Stack traces, which hold paths, are taken out of the programs
before they are saved. Running the script twice gives the same bytes."""


class Kinds(torch.nn.Module):
    """A module with a buffer of every dtype that an archive can hold and safetensors too."""

    def __init__(self):
        super().__init__()
        self.second = torch.nn.Linear(2, 2)
        for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16, torch.float64, torch.complex64,
                      torch.uint32, torch.uint64):
            self.register_buffer(str(dtype).removeprefix("torch."), torch.zeros(3, dtype=dtype))
        for dtype in (torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz,
                      torch.float8_e8m0fnu):
            self.register_buffer(str(dtype).removeprefix("torch."), from_bits([0x38, 0x40, 0x48], dtype))

    def forward(self, x):
        return self.second(x)


def loaded_state(book, file):
    """Give the state dict of a saved program."""
    return torch.export.load(book.folder / file).state_dict


def export_save(book, file, about, module, **options):
    """Export and save a module and describe the file."""
    torch.export.save(exported(module), book.folder / file, **options)
    book.about[file] = about


def edited(parts, config, change):
    """Give an archive's records with one JSON record changed."""
    content = json.loads(parts[config])
    added = change(content["config"])
    return rezip({**parts, config: json.dumps(content).encode(), **added}, prefix="edited")


def pickled(config):
    """Turn one weight into a nested checkpoint."""
    made = io.BytesIO()
    torch.save(torch.nn.Parameter(normal(2, 5)), made)
    config["extra.weight"] = {**config["first.bias"], "path_name": "weight_pickled", "use_pickle": True}
    return {"data/weights/weight_pickled": made.getvalue()}


def archive_cases(book):
    """Archives of the current generation."""
    export_save(book, "program.pt2", "a program with tied weights, views of one storage, constants", settle(Exported()))
    export_save(book, "kinds.pt2", "a program with buffers of many dtypes", settle(Kinds()))
    export_save(book, "extra.pt2", "a program with extra files", settle(Exported()),
                extra_files={"notes.txt": "hello", "config.json": "{}"})
    parts = records(book.folder / "program.pt2")
    book.write("pickled.pt2", "program.pt2 re-zipped, with a weight that is a nested checkpoint",
               edited(parts, "data/weights/model_weights_config.json", pickled))
    for file in ("program.pt2", "kinds.pt2", "extra.pt2", "pickled.pt2"):
        state = loaded_state(book, file)
        assert "transient" not in state and "plain" not in state and "second.weight" in state
        output = "program.safetensors" if file == "extra.pt2" else None
        book.expect(f"torch.export: {book.about[file]}", file, state, output)


def flat_cases(book):
    """Archives of the earlier generation: a zip without folders."""
    MIDDLE.write(book, "export", {"flat_241.pt2": "the program of program.pt2 in the earlier flat zip"})
    with zipfile.ZipFile(book.folder / "flat_241.pt2") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in parts.items():
            name = name.replace(".pt", ".json") if name in FIRST_NAMES else name
            archive.writestr(zip_info(name), data)
    book.write("flat_json.pt2", "flat_241.pt2 re-zipped with the record names of torch 2.1", made.getvalue())
    saved = torch.load(io.BytesIO(parts["serialized_state_dict.pt"]), weights_only=True)
    for file in ("flat_241.pt2", "flat_json.pt2"):
        book.expect(f"torch.export: {book.about[file]}", file, saved, "program.safetensors")


FIRST_NAMES = {"serialized_state_dict.pt", "serialized_constants.pt"}


def package_cases(book):
    """Packages, which hold code."""
    with torch.package.PackageExporter(str(book.folder / "x_package.pt")) as package:
        package.extern("torch.**")
        package.save_pickle("model", "model.pkl", settle(torch.nn.Linear(2, 3)))
        package.save_pickle("state", "weights.pkl", {"weight": normal(2, 2)})
        package.save_text("notes", "read.txt", "hello")
    book.about["x_package.pt"] = "a package of torch.package with a module and a state dict"
    book.fail("a torch.package is refused by name", "x_package.pt", "unsupported", ["torch.package"])


if __name__ == "__main__":
    write_folder("fixtures_export.py", "export", "Fixtures: torch.export and torch.package", NOTES,
                 [archive_cases, flat_cases, package_cases], [MIDDLE])
