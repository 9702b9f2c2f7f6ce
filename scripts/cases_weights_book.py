"""What the parts of fixtures_weights.py share: metadata, casts to five dtypes and their reports, refused options."""

import fnmatch
import json

import safetensors.torch
import torch

from fixture_book import CASTABLE, FLAG_DTYPES, Book, cast_one, check_reload, plain

DTYPES = {**FLAG_DTYPES, "fp8-e4m3": torch.float8_e4m3fn, "fp8-e5m2": torch.float8_e5m2}


class WeightsBook(Book):
    """A book whose cases may also expect metadata and a report of casts."""

    def expect(self, name, file, tensors, output=None, args=(), mentions=(), casts=None):
        """As in Book; `casts` is what happened to the values of each tensor that is cast."""
        super().expect(name, file, tensors, output, args, mentions)
        if casts is not None:
            self.cases[-1]["casts"] = casts

    def expect_bytes(self, name, file, data, output, args=(), mentions=()):
        """Record that this input and these flags give exactly these bytes."""
        target = self.folder / output
        if target.exists() and target.read_bytes() != data:
            raise SystemExit(f"{output} is expected by two cases with different bytes")
        target.write_bytes(data)
        shown = " ".join([file, *args])
        self.about[output] = self.about.get(output, "reference output for") + f" `{shown}`,"
        case = {"name": name, "input": file, "args": list(args), "expect": output}
        self.cases.append({**case, "mentions": list(mentions)} if mentions else case)

    def expect_metadata(self, name, file, tensors, metadata, output, args=(), mentions=()):
        """Record that this input and these flags give these tensors and this metadata beside `format`."""
        tensors = {key: plain(tensor) for key, tensor in tensors.items()}
        self.expect_bytes(name, file, with_metadata(tensors, metadata), output, args, mentions)
        check_reload(self.folder / output, tensors)

    def expect_folder(self, name, file, outputs, output, args=()):
        """As in Book, but two cases may share a folder only when they expect the same of it."""
        target = self.folder / output
        if target.exists():
            assert {path.name: path.read_bytes() for path in target.iterdir()} == outputs, output
        super().expect_folder(name, file, outputs, output, args)

    def refuse(self, name, file, mentions, args):
        """Record that an option is refused before any file is looked at."""
        self.fail(name, file, "usage", mentions, args, status=2)


def with_metadata(tensors, metadata, form=(("format", "pt"),)):
    """Give the bytes that safetensors writes with this metadata, but with sorted keys.

    safetensors keeps metadata in a HashMap, so its order of several keys differs from run to run."""
    return sorted_metadata(safetensors.torch.save(tensors, metadata={**dict(form), **metadata}))


def sorted_metadata(data):
    """Sort the keys of the metadata in a file of safetensors, all other bytes stay."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    assert dump(header).ljust(size) == data[8:8 + size], "the header is not written as Python writes it"
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = dump(header).ljust(size)
    assert len(text) == size
    return data[:8] + text + data[8 + size:]


def dump(header):
    """Give a header as compact JSON."""
    return json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()


# --- casts ------------------------------------------------------------------------------------------------


def cast_all(tensors, flag, keep=(), clamp=False):
    """Cast what the flag casts, without the names that match a glob in `keep`."""
    kept = {name for name in tensors if any(fnmatch.fnmatchcase(name, glob) for glob in keep)}
    to = clamped if clamp else cast_one
    return {name: plain(t) if name in kept else to(plain(t), DTYPES[flag]) for name, t in tensors.items()}


def clamped(tensor, dtype):
    """Cast a tensor so that no finite value becomes infinite.

    The clamp is computed in float64, where every bound is exact: clamped in bfloat16, float16's maximum is 65536."""
    if tensor.dtype not in CASTABLE or tensor.dtype == dtype:
        return tensor
    limit = torch.finfo(dtype).max
    wide = tensor.double()
    finite = torch.isfinite(wide)
    inside = torch.where(finite, wide, 0.0).clamp(-limit, limit).to(dtype)
    plainly = cast_one(tensor, dtype)
    bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[dtype.itemsize]
    result = torch.where(finite, inside.view(bits), plainly.view(bits)).view(dtype)
    assert torch.isfinite(result.double())[finite].all()
    return result


def report(before, after):
    """Tell for every tensor that was cast what became of its values, computed in float64."""
    return {name: judge(plain(before[name]), result) for name, result in sorted(after.items())
            if plain(before[name]).dtype != result.dtype}


def judge(before, after):
    """Count finite values that became infinite or NaN, values that became 0, and give the largest other error."""
    before, after = before.double().reshape(-1), after.double().reshape(-1)
    was, still = torch.isfinite(before), torch.isfinite(after)
    errors = (before - after).abs()[was & still]
    return {
        "infinite": int((was & ~still).sum()), "zeroed": int((was & (before != 0) & (after == 0)).sum()),
        "max_error": float(errors.max()) if errors.numel() else 0.0,
    }
