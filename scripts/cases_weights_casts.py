"""The part of fixtures_weights.py about casts: every float dtype to every other, overflow, exemptions."""

import numpy
import torch

from cases_weights_book import DTYPES, cast_all, report
from fixture_book import count, from_bits, normal

FLOAT8 = ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"]
WIDE = {"f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
ALL = ["fp32", "fp16", "bf16", "fp8-e4m3", "fp8-e5m2"]


# --- values -----------------------------------------------------------------------------------------------


def padded(values):
    """Repeat values up to a multiple of 64, so that torch casts all of them on its vector path."""
    return numpy.resize(values, (len(values) + 63) // 64 * 64)


def ladder(dtype):
    """Give every finite value of a float8 dtype that is not negative, in order, and the one that would follow."""
    values = torch.arange(128, dtype=torch.uint8).view(dtype).double()
    values = values[torch.isfinite(values)]
    return numpy.append(values.numpy(), 2 * values[-1] - values[-2])


def boundaries():
    """Give the values between neighbours of the float8 dtypes where rounding turns, and values just beside them."""
    made = []
    for name in ("float8_e4m3fn", "float8_e5m2"):
        steps = ladder(getattr(torch, name))
        middle = (steps[:-1] + steps[1:]) / 2
        made += [middle, middle * (1 - 2.0**-20), middle * (1 + 2.0**-20)]
    made = numpy.concatenate(made)
    return numpy.where(numpy.arange(len(made)) % 3 == 0, -made, made)


def limits():
    """Give zeros, infinities, and values at and beyond the limits of every dtype."""
    edges = [
        0.0, -0.0, float("inf"), float("-inf"), 1.0, -1.0, 448.0, 449.0, 463.99, 464.0, 464.01, -464.0, 479.9,
        480.0, 512.0, 57344.0, 61439.0, 61440.0, -61440.0, 65504.0, 65519.0, 65520.0, -65520.0, 65536.0, 131072.0,
        3.4e38, -3.4e38, 3.3895313892515355e38, 3.3961775292304957e38, 3.4028234663852886e38, 2.0**-9, 2.0**-10,
        2.0**-16, 2.0**-17, -(2.0**-17), 2.0**-24, 2.0**-25, 2.0**-26, 2.0**-126, 2.0**-127, 2.0**-133, 2.0**-134,
        2.0**-149, 1e-30, -1e-30,
        240.0, 248.0, 0.1, -0.3, 3.141592653589793,
    ]
    return numpy.array([*edges, *(value * factor for value in edges[6:] for factor in (1 + 2.0**-8, 0.99))])


def nans(dtype):
    """Give NaN of both signs, quiet and signalling, with several payloads."""
    patterns = {
        torch.float64: [0x7FF8 << 48, 0xFFF8 << 48, (0x7FF0 << 48) + 1, (0xFFF0 << 48) + 1, (1 << 63) - 1,
                        (1 << 64) - 1],
        torch.float32: [0x7FC00000, 0xFFC00000, 0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FA00000, 0xFFC12345],
        torch.float16: [0x7E00, 0xFE00, 0x7C01, 0xFC01, 0x7FFF, 0xFFFF, 0x7D55],
        torch.bfloat16: [0x7FC0, 0xFFC0, 0x7F81, 0xFF81, 0x7FFF, 0xFFFF, 0x7FAA],
    }
    return from_bits(numpy.resize(patterns[dtype], 64), dtype)


def floats():
    """Give every float dtype with boundaries, limits, subnormals and NaN, each in multiples of 64 values."""
    tensors = {}
    for name, dtype in WIDE.items():
        tensors[f"{name}.boundaries"] = torch.from_numpy(padded(boundaries())).to(dtype)
        tensors[f"{name}.limits"] = torch.from_numpy(padded(limits())).to(dtype)
        tensors[f"{name}.nan"] = nans(dtype)
    tensors["f64.limits"][4:8] = torch.tensor([1e39, -1e39, 1.7e308, 5e-324], dtype=torch.float64)
    tensors["f64.twice"] = torch.from_numpy(padded(numpy.array([
        1 + 2.0**-4 + 2.0**-40, 1 + 2.0**-4 - 2.0**-40, 1 + 2.0**-3 + 2.0**-40, 464 + 1e-9, 61440 - 1e-8, 61440 + 1e-8,
        1 + 2.0**-11 + 2.0**-40, 1 + 2.0**-8 + 2.0**-40, 65520 - 1e-9])))
    for name in FLOAT8:
        tensors[name] = torch.arange(256, dtype=torch.uint8).view(getattr(torch, name))
    return tensors


def others():
    """Give what is never cast."""
    kinds = ["uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"]
    tensors = {f"int.{kind}": count(5).to(getattr(torch, kind)) for kind in kinds}
    complexes = torch.tensor([1 + 70000j, complex(float("nan"), 1e-9)], dtype=torch.complex64)
    return {**tensors, "bool": torch.tensor([True, False]), "complex": complexes, "packed": from_bits(
        range(12), torch.float4_e2m1fn_x2).reshape(3, 4)}


def expect_cast(book, name, file, tensors, flag, args=(), keep=(), clamp=False, word="", mentions=()):
    """Record a cast and its report."""
    after = cast_all(tensors, flag, keep, clamp)
    output = f"{file.removesuffix('.pt')}.{flag}{word}.safetensors"
    book.expect(name, file, after, output, ["--dtype", flag, *args], mentions, report(tensors, after))


# --- cases ------------------------------------------------------------------------------------------------


def every_dtype(book):
    """All float dtypes to all that there are options for."""
    tensors = {**floats(), **others()}
    book.save("cast_floats.pt", "every float dtype: rounding boundaries, limits, subnormals, infinities, NaN", tensors)
    for flag in ALL:
        expect_cast(book, f"every float dtype to {flag}", "cast_floats.pt", tensors, flag)
    limits = {name: tensor for name, tensor in tensors.items() if name.endswith((".limits", ".nan")) or name in FLOAT8}
    for flag in ALL:
        expect_cast(book, f"every float dtype to {flag}, clamped", "cast_floats.pt", limits, flag,
                    ["--on-overflow", "clamp", "--include", "*.limits", "--include", "*.nan", "--include", "float8_*"],
                    clamp=True, word=".clamp")
    some = {name: tensor for name, tensor in tensors.items() if name.startswith("bf16.")}
    after = cast_all(some, "fp16", clamp=True)
    assert torch.isfinite(some["bf16.limits"].float()).sum() == torch.isfinite(after["bf16.limits"].float()).sum()


def strided(book):
    """Views that are gathered and cast."""
    base, deep = normal(12, 10, seed=1) * 300, normal(6, 5, 4, seed=2, dtype=torch.float64) * 1000
    tensors = {
        "transposed": base.t(), "columns": base[:, ::3], "rows": base[1::2], "expanded": base[:, :1].expand(12, 4),
        "permuted": deep.permute(2, 0, 1), "diagonal": base.diagonal(),
        "overlapping": base.as_strided((5, 4), (1, 1), 3),
        "halves": base.half().t()[2:7], "brains": base.bfloat16()[:, 1:6], "scalar": base[3, 4],
        "channels": (normal(2, 3, 4, 4) * 500).to(memory_format=torch.channels_last), "none": torch.zeros(0, 3),
        "none_double": torch.zeros(2, 0, dtype=torch.float64), "odd": normal(67, seed=3) * 100,
        "float8": from_bits(numpy.arange(60) * 2, torch.float8_e5m2).reshape(6, 10).t(),
        "float8_e4m3": from_bits(numpy.arange(60) * 2, torch.float8_e4m3fn).reshape(6, 10)[::2, 1::3],
    }
    book.save("cast_strided.pt", "views of every kind with values that float8 cannot hold", tensors)
    loaded = book.load("cast_strided.pt")
    for flag in ("fp8-e4m3", "fp8-e5m2", "fp16", "bf16"):
        expect_cast(book, f"views are gathered and cast to {flag}", "cast_strided.pt", loaded, flag)
    expect_cast(book, "views are gathered, clamped and cast", "cast_strided.pt", loaded, "fp8-e5m2",
                ["--on-overflow", "clamp"], clamp=True, word=".clamp")


def exemptions(book):
    """--keep-dtype, by names of the output."""
    tensors = {
        "model.norm.weight": normal(3, dtype=torch.float64), "model.layer.weight": normal(2, 3, seed=1),
        "model.layer.bias": normal(2, seed=2), "model.steps": torch.tensor(7), "head.norm": normal(2, seed=3),
    }
    file = "cast_keep.pt"
    book.save(file, "a small state dict with norms", tensors)

    def case(name, flag, globs, word, more=(), named=lambda name: name, mentions=()):
        args = [part for glob in globs for part in ("--keep-dtype", glob)]
        given = {named(name): tensor for name, tensor in tensors.items()}
        expect_cast(book, name, file, given, flag, [*args, *more], globs, word=word, mentions=mentions)

    case("--keep-dtype exempts a glob", "fp16", ["*.norm.*"], ".norm")
    case("--keep-dtype may be repeated", "bf16", ["*.norm.*", "*.bias", "head.norm"], ".norms")
    case("--keep-dtype * leaves everything", "fp8-e5m2", ["*"], ".all")
    case("--keep-dtype matches whole names", "fp16", ["norm", "layer"], "", mentions=["layer"])
    case("--keep-dtype knows ? and brackets", "fp8-e4m3", ["model.[mn]orm.w?ight"], ".brackets")
    case("--keep-dtype knows braces", "fp8-e4m3", ["model.n?rm.weight", "head.*"], ".braces",
         ["--keep-dtype", "{nothing,model.norm.weight}"])
    case("--keep-dtype matches the name in the output", "fp16", ["base.norm.*"], ".renamed",
         ["--rename", "^model=>base"], lambda name: name.replace("model", "base"))
    case("--keep-dtype does not match the name in the input", "fp16", ["model.norm.*"], ".not_renamed",
         ["--rename", "^model=>base"], lambda name: name.replace("model", "base"), ["model.norm.*"])
    case("--keep-dtype matches the name without its prefix", "fp16", ["norm.*"], ".stripped",
         ["--strip-prefix", "model."], lambda name: name.removeprefix("model."))
    book.refuse("a glob of --keep-dtype that is none", file, ["--keep-dtype"], ["--fp16", "--keep-dtype", "a["])


def overflows(book):
    """--on-overflow: warn, error, clamp."""
    tensors = {
        "fine.weight": normal(4, 3), "hot.weight": torch.tensor([1e5, -1e6, 3.0, 70000.0] * 16),
        "warm.weight": torch.tensor([1e5] + [0.5] * 63),
        "endless": torch.tensor([float("inf"), float("nan"), 1.0, -1.0] * 16),
        "steps": torch.tensor([10**12]), "double": torch.tensor([1e300, 1.0], dtype=torch.float64),
    }
    file = "cast_overflow.pt"
    book.save(file, "values beyond float16, and infinities and NaN that are there before", tensors)
    expect_cast(book, "overflow is a warning that names the tensors", file, tensors, "fp16",
                mentions=["hot.weight", "warm.weight", "double"])
    expect_cast(book, "--on-overflow warn is the default", file, tensors, "fp16", ["--on-overflow", "warn"],
                mentions=["hot.weight"])
    expect_cast(book, "--on-overflow clamp gives the largest finite value", file, tensors, "fp16",
                ["--on-overflow", "clamp"], clamp=True, word=".clamp")
    expect_cast(book, "--on-overflow clamp in bfloat16", file, tensors, "bf16", ["--on-overflow", "clamp"], clamp=True,
                word=".clamp")
    error = ["--on-overflow", "error"]
    book.fail("--on-overflow error names the worst tensor and its count", file, "overflow", ["hot.weight", "48"],
              ["--dtype", "fp16", *error])
    book.fail("--on-overflow error in float32", file, "overflow", ["double", "1"], ["--dtype", "fp32", *error])
    # float8_e4m3fn has no infinity: torch gives its largest value, which loses as much.
    for flag, limit in (("fp8-e5m2", "hot.weight"), ("fp8-e4m3", "hot.weight"), ("bf16", "double")):
        book.fail(f"--on-overflow error in {flag}", file, "overflow", [limit], ["--dtype", flag, *error])
    rest = {name: tensor for name, tensor in tensors.items() if name in ("endless", "steps")}
    after = cast_all(rest, "fp16")
    book.expect("infinities and NaN in the input are no overflow", file, after, "cast_overflow.rest.safetensors",
                ["--dtype", "fp16", *error, "--exclude", "*.weight", "--exclude", "double"], (), report(rest, after))
    expect_cast(book, "tensors that are not cast do not overflow", file, tensors, "fp16",
                [*error, "--keep-dtype", "*.weight", "--keep-dtype", "double"], ["*.weight", "double"], word=".kept")
    expect_cast(book, "without the option an overflow is only told", file, tensors, "fp8-e4m3", [])
    rows = {"rows.wide": torch.tensor([1e6, -1e6, 0.5, float("inf")]).expand(250000, 4),
            "rows.turned": torch.tensor([7e4, 1.0]).expand(300001, 2).t(), "few": torch.tensor([1e6])}
    book.save("cast_rows.pt", "rows that are repeated: small as a checkpoint, a million values", rows)
    for names, worst, total in (("*", "rows.wide", "500000"), ("*.turned", "rows.turned", "300001")):
        book.fail(f"overflows of a million values are counted, {names}", "cast_rows.pt", "overflow", [worst, total],
                  ["--fp16", *error, "--include", names])
    book.expect("--on-overflow without a cast does nothing", file, tensors, "cast_overflow.safetensors", error)


CASTS = [every_dtype, strided, exemptions, overflows]
assert set(ALL) == set(DTYPES)
