#!/usr/bin/env python3
"""Write fixtures/values/: numpy arrays, DTensors and old forms of tensors (see that folder's README.md)."""

import copyreg
import os
import pathlib
import subprocess
import sys
from collections import OrderedDict

import numpy
import torch

from fixture_book import LEGACY, Form, count, normal, small_weights
from fixture_run import MIDDLE, OLD, write_folder

NOTES = """
**Reference outputs** hold the tensors that `torch.load` gives: an array is what `torch.tensor` makes of it in
native byte order, a numpy scalar is a tensor of rank 0, and a DTensor is its local tensor where that is the whole. The
values in `hand_*.pt` are pickled in the forms of old versions by classes with a `__reduce__` of their own. The DTensors
are saved by `scripts/fixtures_dtensor.py` on one process and by the first of two; hashes and thread numbers, which
differ from run to run, are left out of them. Running the script again gives the same bytes, except for the keys of
storages in files called `…_legacy.pt`, which are memory addresses."""
DTENSORS = pathlib.Path(__file__).resolve().parent / "fixtures_dtensor.py"


# --- numpy ------------------------------------------------------------------------------------------------


def as_tensor(value):
    """Make a tensor of a tensor, an array or a numpy scalar."""
    if isinstance(value, torch.Tensor):
        return value
    array = numpy.asarray(value)
    tensor = torch.tensor(array.astype(array.dtype.newbyteorder("="), order="C"))
    return tensor if tensor.numel() else torch.empty(tensor.shape, dtype=tensor.dtype)  # numpy's strides are 0 there


def as_tensors(values):
    """Make tensors of a flat dict of tensors, arrays and numpy scalars."""
    return {key: as_tensor(value) for key, value in values.items()}


def arrays():
    """Give arrays of every dtype and layout that become tensors, beside real tensors."""
    kinds = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "c8"]
    base = numpy.arange(24).reshape(4, 6)
    made = {f"kind.{kind}": (base - 3).astype(kind) for kind in kinds}
    once = numpy.arange(3, dtype="f4")
    return {
        **made, "tensor": normal(2, 3), "tensor_view": normal(4, 4)[1:3, ::2],
        "fortran": numpy.asfortranarray(base.astype("f4")), "fortran_int": numpy.asfortranarray(base.astype("i2")),
        "fortran_cube": numpy.asfortranarray(numpy.arange(24, dtype="f8").reshape(2, 3, 4)),
        "strided": base.astype("f4")[::2, 1::2], "transposed": base.astype("i4").T,
        "reversed": numpy.arange(5, dtype="f4")[::-1],
        "scalar": numpy.array(2.5, dtype="f4"), "scalar_int": numpy.array(-7), "empty": numpy.zeros((0, 3), "f4"),
        "empty_flat": numpy.zeros(0, "i8"), "big_f4": base.astype(">f4"), "big_i8": base.astype(">i8"),
        "big_f2_fortran": numpy.asfortranarray(base.astype(">f2")), "big_c8": numpy.array([1 + 2j], dtype=">c8"),
        "twice.a": once, "twice.b": once, "long": numpy.arange(300, dtype="u1"),
    }


def array_cases(book):
    """Arrays beside tensors, in every pickle protocol."""
    values = arrays()
    about = "numpy arrays of every dtype and layout beside tensors"
    for protocol in (2, 3, 4, 5):
        file = f"numpy_p{protocol}.pt"
        book.save(file, f"{about}, pickle protocol {protocol}", values, pickle_protocol=protocol)
        book.expect(f"{about}, pickle protocol {protocol}", file, as_tensors(book.load(file)), "numpy.safetensors")
    book.save("numpy_legacy.pt", f"{about}, legacy stream", values, **LEGACY)
    book.expect(f"{about}, legacy stream", "numpy_legacy.pt", as_tensors(book.load("numpy_legacy.pt")),
                "numpy.safetensors")
    OLD.write(book, "values", {
        "numpy_113.pt": "arrays and scalars of numpy 1.x", "numpy_113_legacy.pt": "arrays of numpy 1.x, legacy stream"})
    for file in ("numpy_113.pt", "numpy_113_legacy.pt"):
        book.expect(f"numpy: {book.about[file]}", file, as_tensors(book.load(file)), "numpy_113.safetensors")


def scalar_cases(book):
    """Numpy scalars in a state dict, and beside one."""
    scalars = {
        "weight": normal(2, 2), "f4": numpy.float32(3), "f8": numpy.float64(-0.5), "f2": numpy.float16(1.5),
        "i8": numpy.int64(-(2**40)), "i4": numpy.int32(7), "u1": numpy.uint8(255), "bool": numpy.bool_(True),
        "c8": numpy.complex64(1 - 2j), "big": numpy.array([1.5], dtype=">f4")[0],
    }
    for protocol in (2, 5):
        file = f"numpy_scalars_p{protocol}.pt"
        book.save(file, "numpy scalars beside a tensor", scalars, pickle_protocol=protocol)
        book.expect(f"numpy scalars are tensors of rank 0, pickle protocol {protocol}", file,
                    as_tensors(book.load(file)), "numpy_scalars.safetensors")
    book.save("numpy_wrapper.pt", "a state dict in `model` beside numpy scalars", {
        "model": small_weights(), "best_acc": numpy.float64(0.5), "epoch": numpy.int64(3)})
    book.expect("numpy scalars beside a wrapper do not count", "numpy_wrapper.pt",
                book.load("numpy_wrapper.pt")["model"])
    book.save("numpy_model.pt", "numpy arrays alone in `model`", {
        "model": {"a.weight": numpy.arange(6, dtype="f4").reshape(2, 3), "a.bias": numpy.zeros(2, "f4")}, "epoch": 1})
    book.expect("numpy arrays make a state dict", "numpy_model.pt", as_tensors(book.load("numpy_model.pt")["model"]))


def array_failures(book):
    """Arrays that cannot be written."""
    made = {
        "object": numpy.array([1, "x", None], dtype=object), "string": numpy.array(["one", "two"]),
        "bytes": numpy.array([b"one", b"two"]), "complex128": numpy.array([1 + 2j]),
        "structured": numpy.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")]),
        "date": numpy.array(["2024-01-01"], dtype="datetime64[D]"),
    }
    for kind, array in made.items():
        file = f"x_numpy_{kind}.pt"
        book.save(file, f"a numpy array of {kind} beside a tensor", {"weight": normal(2, 2), "bad.part": array})
        book.fail(f"a numpy array of {kind} is refused by name", file, "unsupported", ["bad.part"])


# --- other ways to rebuild a tensor -------------------------------------------------------------------------


class NewForm(Form):
    """A value pickled as a new object of a class, with arguments and state, by NEWOBJ and BUILD."""

    def __init__(self, made, arguments, state):
        super().__init__(copyreg.__newobj__, (made, *arguments), state)

    @property
    def __class__(self):
        return self.form[1][0]


def device_cases(book):
    """Tensors of devices that are saved through numpy or the CPU."""
    rebuild, array = torch._utils, numpy.arange(6, dtype="f4").reshape(2, 3)
    book.save("hand_device.pt", "tensors of other devices, saved through numpy or the CPU", {
        "numpy": Form(rebuild._rebuild_device_tensor_from_numpy, (array, torch.float32, "cpu", False)),
        "numpy_bf16": Form(rebuild._rebuild_device_tensor_from_numpy, (array, torch.bfloat16, "cpu", True)),
        "xla": Form(rebuild._rebuild_xla_tensor, (array.T, torch.float32, "cpu", False)),
        "cpu": Form(rebuild._rebuild_device_tensor_from_cpu_tensor, (normal(2, 3), torch.float32, "cpu", True)),
    })
    loaded = book.load("hand_device.pt")
    assert loaded["numpy_bf16"].dtype == torch.bfloat16 and loaded["numpy"].shape == (2, 3)
    book.expect("tensors of other devices", "hand_device.pt", loaded)


def storage(values, kind):
    """Make a typed storage."""
    return torch.storage.TypedStorage(wrap_storage=values.untyped_storage(), dtype=kind, _internal=True)


def old_form_cases(book):
    """Tensors and parameters in the forms of torch 0.1 to 0.4, in a zip and in a legacy stream."""
    tensor, parameter = normal(2, 3), torch.nn.parameter.Parameter
    floats, longs = storage(count(8), torch.float32), storage(count(4, dtype=torch.int64), torch.int64)
    state = (floats, 1, (2, 3), (3, 1))
    values = {
        "float": Form(torch.FloatTensor, (), state), "float_new": NewForm(torch.FloatTensor, (), state),
        "long": Form(torch.LongTensor, (), (longs, 0, (2, 2), (1, 2))),
        "tensor": Form(torch.Tensor, (), (floats, 2, (3, 2), (1, 3))), "tensor_new": NewForm(torch.Tensor, (), state),
        "rebuilt": Form(torch._utils._rebuild_tensor, (floats, 0, (2, 2), (4, 1))),
        "parameter_3": Form(parameter, (tensor,), (False, False, OrderedDict())),
        "parameter_5": Form(parameter, (), (tensor, None, OrderedDict(), True, False)),
        "parameter_new": NewForm(parameter, (tensor,), (tensor, None, OrderedDict(), True, False)),
        "variable": NewForm(torch.autograd.Variable, (tensor,), (False, False, OrderedDict())),
    }
    for file, options in (("hand_old.pt", {}), ("hand_old_legacy.pt", LEGACY)):
        book.save(file, "tensors and parameters in old pickle forms", values, **options)
        loaded = book.load(file)
        assert loaded["long"].tolist() == [[0, 2], [1, 3]] and loaded["parameter_5"].requires_grad
        book.expect(f"tensors and parameters in old pickle forms, {file}", file, loaded, "hand_old.safetensors")


# --- DTensor ----------------------------------------------------------------------------------------------


def dtensor_cases(book):
    """DTensors, whole and in part, by two versions of torch."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    for python, suffix in ((sys.executable, ""), (MIDDLE.python, "_241")):
        subprocess.run([python, DTENSORS, book.folder, suffix], check=True, env=environment, stderr=subprocess.DEVNULL)
        version = f"by torch {MIDDLE.version}" if suffix else "by torch 2.15.0"
        for stem, about in (("one", "DTensors on one process"), ("two", "a replicated DTensor on two processes"),
                            ("flat", "a DTensor that is sharded over a mesh dimension of one process")):
            file = f"dtensor_{stem}{suffix}.pt"
            book.about[file] = f"{about}, {version}"
            tensors = {key: getattr(value, "_local_tensor", value) for key, value in book.load(file).items()}
            book.expect(f"{about}, {version}", file, tensors, f"dtensor_{stem}.safetensors")
        for stem in ("shard", "partial"):
            file = f"x_dtensor_{stem}{suffix}.pt"
            book.about[file] = f"a DTensor on two processes, {stem}, {version}"
            book.fail(f"a DTensor that is only a part is refused by name: {stem}, {version}", file, "unsupported",
                      ["bad.part"])


if __name__ == "__main__":
    write_folder("fixtures_values.py", "values", "Fixtures: numpy arrays, DTensors, old forms of tensors", NOTES, [
        array_cases, scalar_cases, array_failures, device_cases, old_form_cases, dtensor_cases], [OLD, MIDDLE])
