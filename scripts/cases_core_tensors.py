"""The part of make_fixtures.py about tensors: dtypes, protocols, names, strides, shared memory, casts."""

import numpy
import torch

from fixture_book import cast, count, from_bits, network, normal

FLOAT8 = ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"]


# --- dtypes, protocols, names ---------------------------------------------------------------------------


def dtype_cases(book):
    """Every dtype that safetensors has and torch can save."""
    numbers = ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]
    floats = ["float16", "bfloat16", "float32", "float64"]
    tensors = {"bool.z": torch.tensor([True, False, True]), "bool.a": torch.tensor([[False], [True]])}
    for name in numbers:
        info = torch.iinfo(getattr(torch, name))
        limits = numpy.array([info.min, info.max, 0, 1, 100], dtype=name)
        tensors[f"{name}.z"] = torch.from_numpy(limits)
        tensors[f"{name}.a"] = torch.from_numpy(limits[::-1].copy()).reshape(5, 1)
    for name in floats:
        tensors[f"{name}.z"] = normal(2, 3, seed=4, dtype=getattr(torch, name))
        tensors[f"{name}.a"] = torch.tensor([-0.0, float("inf"), -float("inf"), 1.5], dtype=getattr(torch, name))
    tensors["complex64.z"] = torch.complex(normal(2, 2, seed=5), normal(2, 2, seed=6))
    tensors["complex64.a"] = torch.tensor([1 + 2j, -0.5j], dtype=torch.complex64)
    for name in [*FLOAT8, "float4_e2m1fn_x2"]:
        tensors[f"{name}.z"] = from_bits(range(0, 256, 23), getattr(torch, name))
        tensors[f"{name}.a"] = from_bits([0x12, 0x34, 0x56, 0x78], getattr(torch, name)).reshape(2, 2)
    book.save("dtypes.pt", "two tensors of every dtype safetensors has, not in sorted order", tensors)
    book.expect("every dtype is kept and sorted as safetensors sorts", "dtypes.pt", book.load("dtypes.pt"))
    book.save("x_float4_scalar.pt", "a float4 tensor of rank 0, which has no last dimension to double",
              {"weight": normal(2, 2), "packed": from_bits([0x21], torch.float4_e2m1fn_x2).reshape(())})
    book.fail("a packed float4 tensor of rank 0 cannot be written", "x_float4_scalar.pt", "unsupported", ["packed"])


def protocol_cases(book):
    """The same state dict under every pickle protocol that torch loads."""
    tensors = {
        "weight": normal(2, 3), "bias": normal(3, seed=1), "steps": torch.tensor(12), "mask": torch.tensor([True]),
        "ünïcode": normal(1), "half": normal(4, dtype=torch.float16), "float8": from_bits([1, 2], torch.float8_e5m2),
    }
    for protocol in (2, 3, 4, 5):
        file = f"protocol_{protocol}.pt"
        book.save(file, f"a small state dict saved with pickle protocol {protocol}", tensors, pickle_protocol=protocol)
        book.expect(f"pickle protocol {protocol} is read", file, book.load(file), "protocol.safetensors")


def name_cases(book):
    """Names that need escaping in JSON or look odd."""
    names = ['quote"d', "back\\slash", "new\nline", "tab\t", "nul\x00", "bell\x07", "del\x7f", "slash/ed", "sp ace",
             "é", "重み", "🙂", "\u2028", "\ufeffbom", "a..b", ".lead", "trail.", "{brace}", "*", "", "x" * 300]
    book.save("names.pt", "names with quotes, control characters, non-ASCII letters, empty, long",
              {name: torch.tensor([float(i)]) for i, name in enumerate(names)})
    book.expect("odd names are written as safetensors writes them", "names.pt", book.load("names.pt"))


# --- strides, shared memory, wrappers of a tensor -------------------------------------------------------


def geometry_cases(book):
    """Views of every shape and stride."""
    base, cube = count(6, 8) - 20, count(3, 4, 5) - 30
    flags = count(5, 7, dtype=torch.uint8) % 3 == 0
    complexes = torch.complex(count(3, 4) - 5, count(3, 4) - 3)
    large = count(40)
    tensors = {
        "scalar": torch.tensor(3.5), "scalar_int": torch.tensor(-7), "scalar_from_slice": large[17],
        "empty_0": torch.zeros(0), "empty_0_3": torch.zeros(0, 3), "empty_3_0_2": torch.zeros(3, 0, 2),
        "empty_slice": large[5:5], "empty_transposed": torch.zeros(2, 0).t(),
        "slice_rows": base[1:4], "slice_columns": base[:, 2:5], "transpose": base.t(),
        "transpose_of_slice": base[1:5, 3:6].t(),
        "permute_120": cube.permute(1, 2, 0), "permute_201": cube.permute(2, 0, 1),
        "permute_210": cube.permute(2, 1, 0),
        "permute_021": cube.permute(0, 2, 1),
        "expand": torch.tensor([[1.0], [2.0], [3.0]]).expand(3, 5), "expand_scalar": torch.tensor(9.0).expand(2, 3),
        "expand_front": torch.tensor([4.0, 5.0]).expand(3, 2),
        "channels_last": (count(4, 3, 3, 2) - 30).to(memory_format=torch.channels_last),
        "channels_last_3d": count(2, 2, 2, 3, 2).to(memory_format=torch.channels_last_3d),
        "step_rows": base[::2], "step_columns": base[:, ::3], "step_both": base[1::2, 1::3], "step_flat": large[3::7],
        "narrow": large.narrow(0, 11, 9), "overlapping": large.as_strided((4, 5), (2, 1), 6),
        "overlapping_same": large.as_strided((3, 3), (1, 1)),
        "size_1_odd_stride": large.as_strided((1, 4), (777, 1), 2),
        "size_1_inside": large.as_strided((3, 1, 2), (5, 999, 2), 1), "diagonal": base.diagonal(),
        "diagonal_offset": base.diagonal(offset=2), "unfold": large.unfold(0, 4, 3),
        "bool_transpose": flags.t(), "bool_step": flags[::2, ::2],
        "int64_permute": cube.to(torch.int64).permute(2, 0, 1),
        "float64_transpose": base.double().t(), "bfloat16_transpose": base.bfloat16().t(),
        "float8_transpose": from_bits(range(48), torch.float8_e4m3fn).reshape(6, 8).t(),
        "float4_transpose": from_bits(range(12), torch.float4_e2m1fn_x2).reshape(3, 4).t(),
        "complex": complexes, "complex_transpose": complexes.t(), "complex_conj": complexes.conj(),
        "complex_conj_transpose": complexes.t().conj(), "complex_conj_slice": complexes[1:, ::2].conj(),
        "complex_real": complexes.real, "complex_imag": complexes.imag, "neg_imag": complexes.conj().imag,
        "neg_imag_transpose": complexes.t().conj().imag, "neg_of_complex_slice": complexes[:, 1:3].conj().imag,
    }
    book.save("geometry.pt", "views: slices, permutes, expands, steps, overlaps, lazy conjugates and negatives",
              save_apart(tensors))
    loaded = book.load("geometry.pt")
    assert loaded["complex_conj"].is_conj() and loaded["neg_imag"].is_neg()
    assert not loaded["channels_last"].is_contiguous() and loaded["expand"].stride() == (1, 0)
    book.expect("views are gathered", "geometry.pt", loaded)
    book.expect_casts("views are gathered and cast", "geometry.pt", loaded, ["fp16"])


def save_apart(tensors):
    """Copy views that look at complex memory as real numbers, which torch refuses to save in one file."""
    apart = {}
    for name, tensor in tensors.items():
        if name in ("complex_real", "complex_imag") or name.startswith("neg_"):
            whole = tensor.untyped_storage().clone()
            view = torch.empty(0).set_(whole, tensor.storage_offset(), tensor.shape, tensor.stride())
            tensor = torch._neg_view(view) if tensor.is_neg() else view
        apart[name] = tensor
    return apart


def transpose_cases(book):
    """Matrices large enough for a blocked gather."""
    tensors = {
        "float32": normal(33, 131).t(),
        "int8": (count(131, 40) % 251 - 125).to(torch.int8).t(),
        "uint8": (count(37, 50) % 253).to(torch.uint8).t(),
        "float16": normal(67, 45, dtype=torch.float16).t(),
        "float64_cube": normal(5, 7, 11, dtype=torch.float64).permute(2, 0, 1),
    }
    book.save("transpose.pt", "transposed matrices of several element sizes", tensors)
    book.expect("larger transposed matrices are gathered", "transpose.pt", book.load("transpose.pt"))


def tied_cases(book):
    """Tensors that share memory."""
    weight, storage = normal(4, 3), count(12)
    book.save("tied.pt", "one tensor under two names, overlapping views, a transposed alias", {
        "embed.weight": weight, "head.weight": weight, "first": storage[:8], "second": storage[4:],
        "whole": storage.reshape(3, 4), "transposed": storage.reshape(3, 4).t(),
    })
    book.expect("tensors sharing memory are each written whole", "tied.pt", book.load("tied.pt"))
    raw = count(8, dtype=torch.uint8)
    book.save("two_views.pt", "one storage, saved as uint8 and without a type: bytes and a float8 view of them",
              {"bytes": raw, "float8": raw.view(torch.float8_e4m3fn)})
    book.expect("a storage may be named by two classes", "two_views.pt", book.load("two_views.pt"))


def wrapped_tensor_cases(book):
    """Parameters, buffers, tensors with attributes, and the state dict of a module."""
    marked = torch.nn.Parameter(normal(2, 2))
    marked.foo = 1
    tagged = normal(3)
    tagged.tag = "x"
    book.save("tensor_kinds.pt", "nn.Parameter, nn.Buffer, and both kinds with Python attributes", {
        "parameter": torch.nn.Parameter(normal(2, 3)), "frozen": torch.nn.Parameter(normal(2), requires_grad=False),
        "marked": marked, "tagged": tagged, "buffer": torch.nn.Buffer(normal(4)),
        "transient": torch.nn.Buffer(normal(2, seed=1), persistent=False),
        "grad": normal(2, seed=2).requires_grad_(),
    })
    book.expect("parameters, buffers and tensors with attributes are tensors", "tensor_kinds.pt",
                book.load("tensor_kinds.pt"))
    book.save("module_state.pt", "state_dict() of an nn.Sequential, with _metadata", network().state_dict())
    book.expect("the state dict of a module is read", "module_state.pt", book.load("module_state.pt"))
    book.expect_casts("integers stay when a module is cast", "module_state.pt", book.load("module_state.pt"), ["fp16"])


# --- casts ----------------------------------------------------------------------------------------------


def padded(values):
    """Repeat values up to a multiple of 64, so that torch casts all of them on its vector path."""
    size = (len(values) + 63) // 64 * 64
    return [values[i % len(values)] for i in range(size)]


def float32_values():
    """Give float32 bit patterns on which roundings differ."""
    patterns = [
        0x00000000, 0x80000000, 0x3F800000, 0xBF800000,              # zeros and ones
        0x7F800000, 0xFF800000,                                      # infinities
        0x7FC00000, 0xFFC00000, 0x7F800001, 0xFF800001, 0x7FBFFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FA00000,
        0x7F802000, 0x7F810000, 0xFFC12345,                          # NaN, quiet and signalling
        0x00000001, 0x80000001, 0x007FFFFF, 0x807FFFFF, 0x00800000, 0x00400000,  # subnormals of float32
        0x7F7FFFFF, 0xFF7FFFFF, 0x7F7F7FFF, 0x7F7F8000, 0x7F7F0000,  # largest finite of float32 and bfloat16
        0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF, 0xBF808000, 0xBF818000,  # bfloat16 ties and their neighbours
        0x3F801000, 0x3F803000, 0x3F801001, 0x3F800FFF, 0xBF801000, 0xBF803000,  # float16 ties and their neighbours
        0x00008000, 0x00018000, 0x00008001, 0x0000FFFF, 0x007F8000,  # ties among the subnormals of bfloat16
    ]
    halves = [65504.0, 65519.99, 65519.996, 65520.0, 65535.0, 65536.0, -65504.0, -65519.99, -65520.0, 1e30, -1e30]
    tiny = [2.0**-14, 2.0**-14 - 2.0**-25, 2.0**-24, 2.0**-25, 2.0**-25 * 1.0001, 1.5 * 2.0**-24, 2.5 * 2.0**-24,
            -(2.0**-24), -(2.0**-25), 3 * 2.0**-26, 2.0**-26, 1023.5 * 2.0**-24, 0.1, -0.3, 3.14159265]
    floats = numpy.array(halves + tiny, dtype=numpy.float32).view(numpy.uint32).tolist()
    return from_bits(padded(patterns + floats), torch.float32)


def float64_values():
    """Give float64 values where rounding twice, through float32, would differ from rounding once."""
    ties = [
        1 + 2.0**-24, 1 + 3 * 2.0**-24, 1 + 2.0**-24 + 2.0**-50, 1 + 2.0**-11, 1 + 2.0**-11 + 2.0**-40,
        1 + 3 * 2.0**-11,
        1 + 2.0**-8, 1 + 2.0**-8 + 2.0**-40, 1 + 2.0**-8 - 2.0**-40, 1 + 3 * 2.0**-8, 2.0**-25 + 2.0**-60,
        65519.99999999, 65520.0, 65519.999999999993, 3.4028235677973366e38, 3.4028235677973362e38, 3.4e38, 1e39, -1e39,
        1.7e308, -1.7e308, 2.0**-149, 2.0**-150, 2.0**-150 + 2.0**-190, 2.0**-1074, -(2.0**-1074), 2.0**-133, 2.0**-134,
        0.0, -0.0, 0.1, -0.1, float("inf"), float("-inf"), 2.0**-126 - 2.0**-150, 2.0**-14 - 2.0**-26,
    ]
    nans = [0x7FF8000000000000, 0xFFF8000000000000, 0x7FF0000000000001, 0xFFF0000000000001, 0x7FFFFFFFFFFFFFFF,
            0x7FF4000000000000, 0x7FF0000020000000]
    bits = numpy.array(ties).view(numpy.uint64).tolist() + nans
    return from_bits(padded(bits), torch.float64)


def cast_cases(book):
    """Casts of every dtype, and of many float16 and bfloat16 patterns."""
    tensors = {"f32": float32_values(), "f64": float64_values()}
    for name in [*FLOAT8, "float4_e2m1fn_x2"]:
        tensors[name] = from_bits(range(256), getattr(torch, name))
    tensors["f16"] = from_bits(padded([0, 0x8000, 1, 0x8001, 0x3FF, 0x400, 0x7BFF, 0x7C00, 0xFC00, 0x7E00, 0xFE00,
                                       0x7C01,
                                       0xFC01, 0x7FFF, 0x7D55, 0x3C00, 0x3555]), torch.float16)
    tensors["bf16"] = from_bits(padded([0, 0x8000, 1, 0x8001, 0x7F, 0x80, 0x7F7F, 0x7F80, 0xFF80, 0x7FC0, 0xFFC0,
                                        0x7F81,
                                        0xFF81, 0x7FFF, 0x7FAA, 0x477F, 0x4780, 0x3380, 0x3300]), torch.bfloat16)
    for name in ("uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"):
        tensors[name] = count(5).to(getattr(torch, name))
    tensors["bool"] = torch.tensor([True, False])
    tensors["complex64"] = torch.tensor([1 + 70000j, complex(float("nan"), 1e-9)], dtype=torch.complex64)
    tensors["scalar"], tensors["empty"] = torch.tensor(1.00048828125), torch.zeros(0, 2, dtype=torch.float64)
    book.save("cast_mix.pt", "every dtype, with NaN, infinities, subnormals, ties and limits", tensors)
    book.expect_casts("floating tensors are cast and nothing else", "cast_mix.pt", book.load("cast_mix.pt"))
    book.expect("--fp16 means --dtype fp16", "cast_mix.pt", cast(book.load("cast_mix.pt"), "fp16"),
                "cast_mix.fp16.safetensors", ["--fp16"])
    patterns = numpy.arange(17 * 64) * 61 % 65536
    book.save("cast_patterns.pt", "every 61st bit pattern of float16 and of bfloat16",
              {"f16": from_bits(patterns, torch.float16), "bf16": from_bits(patterns, torch.bfloat16)})
    book.expect_casts("float16 and bfloat16 patterns are cast", "cast_patterns.pt", book.load("cast_patterns.pt"))
