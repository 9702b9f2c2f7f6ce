"""What the scripts that write fixtures share: the book of cases, the reference outputs, and values to save.

Expected outputs are computed by torch and the safetensors package, never by ckpt2st.
"""

import io
import os
import pathlib
import shutil
import zipfile
from collections import OrderedDict
from collections.abc import Mapping

import numpy
import safetensors.torch
import torch

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures"
LEGACY = {"_use_new_zipfile_serialization": False}
FLAG_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
CASTABLE = {
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu,
}


# --- the book of cases ------------------------------------------------------------------------------------


class Book:
    """Collects the cases of one folder's manifest and the description of every file in it."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.cases = []
        self.about = {}

    def clear(self):
        """Start from an empty folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def paths(self):
        """Give everything in the folder."""
        return list(self.folder.rglob("*"))

    def load(self, file):
        """Load one of our own checkpoints as torch does."""
        return torch.load(self.folder / file, map_location="cpu", weights_only=False)

    def save(self, file, about, value, **options):
        """Save a value with torch.save and describe the file."""
        torch.save(value, self.folder / file, **options)
        self.about[file] = about

    def write(self, file, about, data):
        """Write raw bytes and describe the file."""
        (self.folder / file).write_bytes(data)
        self.about[file] = about

    def expect(self, name, file, tensors, output=None, args=(), mentions=()):
        """Record that this input and these flags give exactly these tensors, written by safetensors.

        `mentions` is text that the summary must contain."""
        output = output or f"{pathlib.Path(file).stem}.safetensors"
        tensors = {key: plain(tensor) for key, tensor in tensors.items()}
        data = reference_bytes(tensors)
        target = self.folder / output
        if target.exists() and target.read_bytes() != data:
            raise SystemExit(f"{output} is expected by two cases with different bytes")
        target.write_bytes(data)
        check_reload(target, tensors)
        shown = " ".join([file, *args])
        self.about[output] = self.about.get(output, "reference output for") + f" `{shown}`,"
        case = {"name": name, "input": file, "args": list(args), "expect": output}
        self.cases.append({**case, "mentions": list(mentions)} if mentions else case)

    def expect_folder(self, name, file, outputs, output, args=()):
        """Record that this input gives a folder of exactly these files, given as name to bytes."""
        target = self.folder / output
        target.mkdir(parents=True, exist_ok=True)
        for item, data in outputs.items():
            (target / item).write_bytes(data)
        self.about[f"{output}/"] = f"reference outputs for `{' '.join([file, *args])}`"
        self.cases.append({"name": name, "input": file, "args": list(args), "expect_folder": output})

    def expect_casts(self, name, file, tensors, flags=("fp32", "fp16", "bf16")):
        """Record one case per cast flag."""
        for flag in flags:
            output = f"{pathlib.Path(file).stem}.{flag}.safetensors"
            self.expect(f"{name}, as {flag}", file, cast(tensors, flag), output, ["--dtype", flag])

    def fail(self, name, file, error, mentions, args=(), status=1):
        """Record that this input and these flags are refused with a message that says certain things."""
        assert mentions and all(mentions), name
        self.cases.append({
            "name": name, "input": file, "args": list(args), "error": error, "exit": status,
            "mentions": list(mentions),
        })


def plain_case(book, file, about, value, *path, name=None):
    """Save a value and expect the tensors at a path of keys."""
    book.save(file, about, value)
    chosen = book.load(file)
    for key in path:
        chosen = chosen[key]
    book.expect(name or about, file, flatten(chosen))


def flatten(value, prefix=None):
    """Give the tensors of nested mappings and sequences under dotted names."""
    if isinstance(value, torch.Tensor):
        return {"tensor" if prefix is None else prefix: value}
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        return {}
    found = {}
    for key, item in items:
        name = str(key) if prefix is None else f"{prefix}.{key}"
        found.update(flatten(item, name))
    return found


def plain(tensor):
    """Give a contiguous tensor of its own with no lazy conjugation or negation left."""
    return tensor.detach().resolve_conj().resolve_neg().contiguous().clone()


def cast(tensors, flag):
    """Cast what the flag casts: floating tensors, without the packed four-bit kind torch has no cast for."""
    dtype = FLAG_DTYPES[flag]
    return {key: cast_one(plain(tensor), dtype) for key, tensor in tensors.items()}


def cast_one(tensor, dtype):
    """Cast one tensor and make sure that the bits of the result do not depend on an element's position."""
    if tensor.dtype not in CASTABLE:
        return tensor
    result = tensor.to(dtype)
    flat = tensor.reshape(-1)
    if flat.numel() and torch.isnan(flat.to(torch.float32)).any():
        moved = same_dtype_roll(flat, 1).to(dtype)
        if raw_bytes(same_dtype_roll(moved, -1)) != raw_bytes(result):
            raise SystemExit(f"the NaN bits of a {tensor.dtype} to {dtype} cast depend on the position")
    return result


def same_dtype_roll(flat, shift):
    """Roll a flat tensor through its bytes, since torch has no roll for float8."""
    size = flat.element_size()
    return flat.view(torch.uint8).reshape(-1, size).roll(shift, 0).contiguous().view(-1).view(flat.dtype)


def raw_bytes(tensor):
    """Give the bytes of a contiguous tensor."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def reference_bytes(tensors):
    """Give the bytes that safetensors' save_file writes, which goes through the same serializer."""
    return safetensors.torch.save(tensors, metadata={"format": "pt"})


def check_reload(path, tensors):
    """Make sure that safetensors reads an output back to the tensors that went in."""
    loaded = safetensors.torch.load_file(path)
    assert loaded.keys() == tensors.keys(), path
    for key, tensor in tensors.items():
        assert loaded[key].dtype == tensor.dtype and loaded[key].shape == tensor.shape, (path, key)
        assert raw_bytes(loaded[key]) == raw_bytes(tensor), (path, key)


# --- making values and archives -------------------------------------------------------------------------------


def normal(*shape, seed=0, dtype=torch.float32):
    """Give normally distributed values that are the same on every processor."""
    values = numpy.random.default_rng([seed, *shape]).standard_normal(shape)
    return torch.from_numpy(numpy.asarray(values)).to(dtype)


def count(*shape, dtype=torch.float32):
    """Give 0, 1, 2, … in the given shape."""
    return torch.arange(int(numpy.prod(shape)), dtype=torch.float64).to(dtype).reshape(shape)


def from_bits(bits, dtype):
    """Make a floating tensor of bit patterns."""
    width = {2: numpy.uint16, 4: numpy.uint32, 8: numpy.uint64, 1: numpy.uint8}[dtype.itemsize]
    return torch.from_numpy(numpy.array(bits, dtype=width)).view(dtype)


def network():
    """Make a small convolutional module with buffers and settled values."""
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Linear(4, 2, bias=False),
    )
    with torch.no_grad():
        for seed, tensor in enumerate(module.state_dict().values()):
            if tensor.is_floating_point():
                tensor.copy_(normal(*tensor.shape, seed=seed))
            else:
                tensor.fill_(17)
    return module


def settle_small(module, start=0):
    """Give a module settled small values in the place of its random ones."""
    with torch.no_grad():
        for seed, tensor in enumerate(module.state_dict().values(), start):
            if tensor.is_floating_point():
                tensor.copy_(normal(*tensor.shape, seed=seed) * 0.1)
    return module


def adam_state(shapes, kind=torch.optim.Adam):
    """Take a real optimizer through one step and give its state dict."""
    params = [torch.nn.Parameter(normal(*shape, seed=i)) for i, shape in enumerate(shapes)]
    optimizer = kind(params, lr=1e-3)
    for i, param in enumerate(params):
        param.grad = normal(*param.shape, seed=100 + i)
    optimizer.step()
    return optimizer.state_dict()


def small_weights(seed=0):
    """Give a small flat state dict."""
    return OrderedDict([
        ("layer.weight", normal(3, 4, seed=seed)),
        ("layer.bias", normal(3, seed=seed + 1)),
        ("head.weight", normal(2, 3, seed=seed + 2)),
    ])


def with_state(made, **state):
    """Make an instance of a class without arguments and give it attributes."""
    value = made.__new__(made)
    value.__dict__.update(state)
    return value


class Form:
    """A value that is pickled in a form given by hand: callable, arguments and perhaps state."""

    def __init__(self, *form):
        self.form = form

    def __reduce__(self):
        return self.form


class Dangerous:
    """Asks the reader of a pickle to run a command; it is only ever saved here."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def cut(data):
    """Give the first 60 % of some bytes."""
    return data[:len(data) * 6 // 10]


def zip_info(name, method=zipfile.ZIP_STORED):
    """Give a zip entry with a settled date."""
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.compress_type = method
    return info


def records(path):
    """Read the records of a checkpoint without their prefix."""
    with zipfile.ZipFile(path) as archive:
        return {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}


def rezip(parts, prefix="archive", method=zipfile.ZIP_STORED, folder_entry=False):
    """Write records into a zip with Python's zipfile."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        if folder_entry:
            archive.writestr(zip_info(f"{prefix}/"), b"")
        for name, data in parts.items():
            archive.writestr(zip_info(f"{prefix}/{name}", method), data)
    return made.getvalue()
