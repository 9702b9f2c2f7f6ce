#!/usr/bin/env python3
"""Write the inputs that an older torch must make; the scripts fixtures_*.py run this in its environment.

    python fixtures_old_torch.py FOLDER TOPIC VERSION
"""

import os
import sys
import time
from collections import OrderedDict
from unittest import mock

import numpy
import torch

from fixture_networks import (
    Exported, Net, Traced, detection_checkpoint, exported, hide_paths, sequential_model, settle, traced, whole_model,
)

LEGACY = {"_use_new_zipfile_serialization": False}


def torchscript_files():
    """A scripted and a traced module, and one for the lite interpreter."""
    module = torch.jit.script(settle(Net()))
    torch.jit.save(module, "script_113.pt")
    module._save_for_lite_interpreter("script_lite_113.ptl")
    torch.jit.save(traced(settle(Traced())), "traced_113.pt")


def both(stem, value):
    """Save a value as a zip and as a legacy stream."""
    torch.save(value, f"{stem}_113.pt")
    torch.save(value, f"{stem}_113_legacy.pt", **LEGACY)


def module_files():
    """Whole modules."""
    both("whole", whole_model())
    both("sequential", sequential_model())
    both("detection", detection_checkpoint())


def value_files():
    """Arrays and scalars of numpy 1.x beside a tensor."""
    base = numpy.arange(12).reshape(3, 4)
    both("numpy", {
        "tensor": torch.arange(3.0), "float": base.astype("f4"), "fortran": numpy.asfortranarray(base.astype("f2")),
        "big": base.astype(">i4"), "mask": base > 5, "rank_0": numpy.array(1.5), "scalar": numpy.float32(2.5),
        "count": numpy.int64(7), "empty": numpy.zeros((2, 0), "f4"),
    })


def legacy_files():
    """Streams in four pickle protocols."""
    base = torch.arange(24.0).reshape(4, 6)
    values = OrderedDict(
        weight=base, rows=base[1:3], turned=base.t(), half=base[0].half(), brain=base[1].bfloat16(), scalar=base[2, 3],
        steps=torch.tensor([1, 2**40]), mask=base[0] > 2, wave=torch.complex(base[0], base[1]), empty=base[:0],
        parameter=torch.nn.Parameter(base[3] + 0), small=torch.tensor([-1, 2], dtype=torch.int8))
    for protocol in (2, 3, 4, 5):
        torch.save(values, f"old_p{protocol}.pt", pickle_protocol=protocol, **LEGACY)


def export_files():
    """An exported program in the flat zip of that time, with a settled date."""
    with mock.patch("time.localtime", return_value=time.gmtime(315532800)):
        torch.export.save(exported(settle(Exported())), "flat_241.pt2")


TOPICS = {
    "torchscript": torchscript_files, "modules": module_files, "values": value_files, "legacy": legacy_files,
    "export": export_files,
}


def main():
    """Write the files of one topic into a folder."""
    folder, topic, version = sys.argv[1:]
    found = torch.__version__.split("+")[0]
    if found != version:
        raise SystemExit(f"{topic} needs torch {version}, found {found}")
    torch.set_num_threads(1)
    hide_paths()
    os.chdir(folder)
    TOPICS[topic]()


if __name__ == "__main__":
    main()
