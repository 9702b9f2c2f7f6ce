#!/usr/bin/env python3
"""Write the files directly in fixtures/ and those in fixtures/pickle/: checkpoints saved by a real torch, and what torch and safetensors make of them.

    python3.11 -m venv venv
    venv/bin/pip install torch==2.15.0 numpy==2.4.6 safetensors==0.8.0
    venv/bin/python scripts/make_fixtures.py

Running it twice gives the same bytes. The expected outputs are computed by torch and the safetensors
package, never by ckpt2st. Scripts called fixtures_*.py write the folders beside pickle/.
"""

import argparse
import fnmatch
import io
import os
import pathlib
import pickle
import platform
import random
import shutil
import types
import warnings
import zipfile
from collections import OrderedDict

import numpy
import torch
from torch.utils.serialization import config as torch_config

from fixture_book import (
    FIXTURES, Book, adam_state, cast, check_versions, count, flatten, foreign, from_bits, network, normal, records,
    rezip, small_weights, table_of_files, with_state, write_manifest, zip_info,
)

PINNED = {"torch": "2.15.0", "numpy": "2.4.6", "safetensors": "0.8.0"}
FLOAT8 = ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"]


def padded(values):
    """Repeat values up to a multiple of 64, so that torch casts all of them on its vector path."""
    size = (len(values) + 63) // 64 * 64
    return [values[i % len(values)] for i in range(size)]


# --- dtypes, protocols, names, geometry -------------------------------------------------------------------


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


# --- casts ------------------------------------------------------------------------------------------------


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


# --- which sub-tree is the state dict ---------------------------------------------------------------------


def wrapper_cases(book):
    """Checkpoints that wrap their state dict in the usual ways."""
    weights, others = small_weights(), small_weights(10)
    simple = [
        ("wrap_state_dict.pt", "`state_dict` is unwrapped", {"state_dict": weights, "epoch": 3}, ["state_dict"]),
        ("wrap_net.pt", "`net` is unwrapped", {"net": weights}, ["net"]),
        ("wrap_twice.pt", "`model.state_dict` is unwrapped twice", {"model": {"state_dict": weights}},
         ["model", "state_dict"]),
        ("textual_inversion.pt", "a textual inversion gives `*`",
         {"string_to_param": {"*": normal(2, 8)}, "string_to_token": {"*": 265}, "step": 1, "name": "x"},
         ["string_to_param"]),
        ("nested_encoder.pt", "a lone nested mapping keeps its dotted names",
         {"encoder": {"layer": {"weight": normal(2, 2), "bias": normal(2)}}}, []),
        ("flat_with_step.pt", "tensors named like training state are not lost from a flat dict",
         {**weights, "step": torch.tensor(5), "epoch": torch.tensor(2.0)}, []),
        ("two_models.pt", "two sub-trees stay dotted", {"unet": weights, "text_encoder": others, "epoch": 1}, []),
        ("hypernetwork.pt", "int keys and lists become decimal parts of names", hypernetwork(), []),
        ("list.pt", "a list gives its positions as names", [normal(2), normal(2, 2), torch.tensor(3)], []),
        ("bare_tensor.pt", "a bare tensor is called `tensor`", normal(2, 3), []),
        ("params_ema_alone.pt", "averaged weights alone are the weights", {"params_ema": weights}, ["params_ema"]),
    ]
    for file, name, value, path in simple:
        book.save(file, f"wrapper rule: {name}", value)
        chosen = book.load(file)
        for key in path:
            chosen = chosen[key]
        book.expect(name, file, flatten(chosen))


def hypernetwork():
    """Make a hypernetwork as web UIs save it: int keys, each with two state dicts in a list."""
    def pair(size):
        return [{"linear.weight": normal(2, 3, seed=size + i), "linear.bias": normal(2, seed=size + i)} for i in (0, 1)]
    return {768: pair(768), 1280: pair(1280), "step": 900, "name": "style", "layer_structure": [1, 2, 1],
            "activation_func": "linear", "optional_info": None}


def training_cases(book):
    """Training checkpoints with optimizer state."""
    weights = small_weights()
    shapes = [tensor.shape for tensor in weights.values()]
    book.save("training.pt", "model_state_dict, a real Adam state, an epoch", {
        "model_state_dict": weights, "optimizer_state_dict": adam_state(shapes), "epoch": 3, "loss": 0.25})
    loaded = book.load("training.pt")
    book.expect("`model_state_dict` is unwrapped", "training.pt", flatten(loaded["model_state_dict"]))
    for path, value in (("optimizer_state_dict", loaded["optimizer_state_dict"]),
                        ("optimizer_state_dict.state.1", loaded["optimizer_state_dict"]["state"][1]),
                        ("model_state_dict", loaded["model_state_dict"])):
        output = "training.safetensors" if path == "model_state_dict" else f"training.{path}.safetensors"
        book.expect(f"--root {path} chooses that sub-tree", "training.pt", flatten(value), output, ["--root", path])
    book.expect("--all gives every tensor its full path", "training.pt", flatten(loaded), "training.all.safetensors",
                ["--all"])
    book.fail("a --root that does not exist is named", "training.pt", "selection", ["no_such"], ["--root", "no_such"])
    book.fail("globs that leave nothing are an error", "training.pt", "selection", [], ["--include", "no_such.*"])
    book.expect("--include and --exclude choose by name", "training.pt",
                {"layer.bias": loaded["model_state_dict"]["layer.bias"]}, "training.bias.safetensors",
                ["--include", "layer.*", "--exclude", "*.weight"])


def twin_cases(book):
    """Checkpoints that hold the averaged weights in a tree of their own."""
    weights, averaged = small_weights(), small_weights(10)
    shapes = [tensor.shape for tensor in weights.values()]
    with_buffer = {**weights, "bn.running_mean": normal(3, seed=30)}
    book.save("twin_ema.pt", "model, ema (without the model's buffer) and a real Adam state",
              {"model": with_buffer, "ema": averaged, "optimizer": adam_state(shapes), "epoch": 7})
    loaded = book.load("twin_ema.pt")
    book.expect("a twin tree of averages is left out", "twin_ema.pt", loaded["model"])
    book.expect("--ema drop leaves the raw weights", "twin_ema.pt", loaded["model"], args=["--ema", "drop"])
    book.expect("--ema only takes the averages and the model's buffers", "twin_ema.pt",
                {**loaded["model"], **loaded["ema"]}, "twin_ema.ema.safetensors", ["--ema", "only"])
    book.save("params_ema.pt", "params and params_ema", {"params": weights, "params_ema": averaged})
    loaded = book.load("params_ema.pt")
    book.expect("`params` wins over `params_ema`", "params_ema.pt", loaded["params"])
    book.expect("--ema only takes `params_ema`", "params_ema.pt", loaded["params_ema"], "params_ema.ema.safetensors",
                ["--ema", "only"])


# --- foreign classes, Lightning, Stable Diffusion ---------------------------------------------------------


def foreign_classes():
    """Make the foreign classes that Lightning checkpoints are known to hold."""
    return types.SimpleNamespace(
        checkpoint=foreign("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),
        attributes=foreign("pytorch_lightning.utilities.parsing", "AttributeDict", dict),
        config=foreign("omegaconf.dictconfig", "DictConfig"),
        metadata=foreign("omegaconf.base", "ContainerMetadata"),
        node=foreign("omegaconf.nodes", "AnyNode"),
        own=foreign("my_project.config", "TrainConfig"),
    )


def lightning_cases(book, classes):
    """A checkpoint as Lightning writes it, full of foreign classes."""
    node = with_state(classes.node, _metadata=with_state(classes.metadata, key="lr"), _val=0.001)
    config = with_state(classes.config, _metadata=with_state(classes.metadata, key=None), _content={"lr": node})
    hyper = classes.attributes(lr=0.001, path=pathlib.PosixPath("runs/1"),
                               namespace=argparse.Namespace(seed=7, tags=["a"]))
    hyper.update({"config": config, classes.own: "a class as a key", "own": with_state(classes.own, depth=2)})
    monitor = "ModelCheckpoint{'monitor': 'val/loss', 'mode': 'min', 'every_n_train_steps': 0}"
    module = network()
    shapes = [param.shape for param in module.parameters()]
    book.save("lightning.ckpt", "a Lightning checkpoint with callbacks, loops, optimizer states and foreign classes", {
        "epoch": 4, "global_step": 1000, "pytorch-lightning_version": "2.1.0",
        "state_dict": OrderedDict((f"model.{key}", value) for key, value in module.state_dict().items()),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"current": {"completed": 4}}}},
        "callbacks": {monitor: {"best_model_score": torch.tensor(0.125),
                                "best_model_path": pathlib.PosixPath("a/b.ckpt"),
                                "callback": with_state(classes.checkpoint, monitor="val/loss")}},
        "optimizer_states": [adam_state(shapes)],
        "lr_schedulers": [{"base_lrs": [0.001], "last_epoch": 4, "_last_lr": [0.0005]}],
        "hparams_name": "kwargs", "hyper_parameters": hyper,
    })
    book.expect("a Lightning checkpoint gives its state dict", "lightning.ckpt", book.load("lightning.ckpt")["state_dict"])


def unet_shapes():
    """Give a few of the U-Net's parameters with their real names and tiny shapes."""
    block, attention = "input_blocks.1.0.", "input_blocks.1.1.transformer_blocks.0."
    return {
        "time_embed.0.weight": (8, 2), "time_embed.0.bias": (8,), "time_embed.2.weight": (8, 8),
        "input_blocks.0.0.weight": (2, 4, 3, 3), "input_blocks.0.0.bias": (2,),
        block + "in_layers.0.weight": (2,), block + "in_layers.2.weight": (2, 2, 3, 3),
        block + "emb_layers.1.weight": (2, 8),
        block + "out_layers.3.bias": (2,), "input_blocks.1.1.proj_in.weight": (2, 2, 1, 1),
        attention + "attn1.to_q.weight": (2, 2), attention + "attn1.to_out.0.bias": (2,),
        attention + "attn2.to_k.weight": (2, 6), attention + "ff.net.0.proj.weight": (16, 2),
        attention + "norm1.weight": (2,),
        "input_blocks.3.0.op.weight": (2, 2, 3, 3), "middle_block.0.in_layers.0.weight": (2,),
        "middle_block.1.transformer_blocks.0.attn2.to_v.weight": (2, 6),
        "output_blocks.0.0.skip_connection.weight": (2, 4, 1, 1),
        "output_blocks.2.1.conv.weight": (2, 2, 3, 3), "out.0.weight": (2,), "out.2.weight": (4, 2, 3, 3),
        "out.2.bias": (4,),
    }


def stable_diffusion_state():
    """Give a state dict with the parts and names of Stable Diffusion 1.x."""
    state = OrderedDict()
    for seed, name in enumerate(["betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod",
                                 "sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod",
                                 "posterior_variance"]):
        state[name] = normal(10, seed=seed).abs()
    for seed, (name, shape) in enumerate(unet_shapes().items()):
        state[f"model.diffusion_model.{name}"] = normal(*shape, seed=100 + seed)
    state["model_ema.decay"] = torch.tensor(0.9999)
    state["model_ema.num_updates"] = torch.tensor(470000, dtype=torch.int32)
    for seed, (name, shape) in enumerate(unet_shapes().items()):
        state["model_ema." + f"diffusion_model.{name}".replace(".", "")] = normal(*shape, seed=200 + seed)
    first = {"encoder.conv_in.weight": (2, 3, 3, 3), "encoder.conv_in.bias": (2,),
             "encoder.mid.attn_1.q.weight": (2, 2, 1, 1),
             "decoder.conv_in.weight": (2, 4, 3, 3), "decoder.up.0.block.0.norm1.weight": (2,),
             "decoder.conv_out.bias": (3,),
             "quant_conv.weight": (8, 8, 1, 1), "post_quant_conv.bias": (4,)}
    text = {"embeddings.token_embedding.weight": (12, 6), "embeddings.position_embedding.weight": (7, 6),
            "encoder.layers.0.self_attn.k_proj.weight": (6, 6), "encoder.layers.0.mlp.fc1.bias": (24,),
            "final_layer_norm.weight": (6,)}
    for seed, (name, shape) in enumerate(first.items()):
        state[f"first_stage_model.{name}"] = normal(*shape, seed=300 + seed)
    state["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77).reshape(1, 77)
    for seed, (name, shape) in enumerate(text.items()):
        state[f"cond_stage_model.transformer.text_model.{name}"] = normal(*shape, seed=400 + seed)
    return state


def without_ema(state):
    """Give the entries that are not averages of latent-diffusion's kind."""
    return {name: tensor for name, tensor in state.items() if not name.startswith("model_ema.")}


def only_ema(state, wrapped):
    """Give the model's entries with each parameter of the wrapped module replaced by its average."""
    chosen = {}
    for name, tensor in without_ema(state).items():
        inner = name.removeprefix(wrapped).replace(".", "")
        chosen[name] = state.get(f"model_ema.{inner}", tensor) if name.startswith(wrapped) else tensor
    return chosen


def matching(state, glob):
    """Give the entries whose name matches a glob."""
    return {name: tensor for name, tensor in state.items() if fnmatch.fnmatchcase(name, glob)}


def stable_diffusion_cases(book, classes):
    """A small file with the structure of a Stable Diffusion 1.x training checkpoint."""
    book.save("sd_mini.ckpt", "Stable Diffusion 1.x in small: EMA copies, VAE, text encoder, schedule, AdamW state", {
        "epoch": 6, "global_step": 470000, "pytorch-lightning_version": "1.4.2", "state_dict": stable_diffusion_state(),
        "callbacks": {classes.checkpoint: {"monitor": "val/loss_simple_ema", "best_model_score": torch.tensor(0.5),
                                           "best_model_path": "checkpoints/epoch=000006.ckpt", "current_score": None}},
        "optimizer_states": [adam_state([(4, 2), (4,)], torch.optim.AdamW)],
        "lr_schedulers": [{"last_epoch": 470000, "lr_lambdas": [None]}],
    })
    state = book.load("sd_mini.ckpt")["state_dict"]
    raw = without_ema(state)
    assert all(f"model_ema.{('diffusion_model.' + name).replace('.', '')}" in state for name in unet_shapes())
    file, vae = "sd_mini.ckpt", matching(state, "first_stage_model.*")
    kept = {name: tensor for name, tensor in state.items() if name not in vae}
    book.expect("Stable Diffusion gives its state dict, averages included", file, state)
    book.expect("Stable Diffusion pruned and halved", file, cast(raw, "fp16"), "sd_mini.fp16.pruned.safetensors",
                ["--fp16", "--prune-ema"])
    book.expect("Stable Diffusion with averages for weights", file, only_ema(state, "model."),
                "sd_mini.ema.safetensors",
                ["--ema", "only"])
    book.expect("Stable Diffusion as bf16", file, cast(state, "bf16"), "sd_mini.bf16.safetensors", ["--bf16"])
    book.expect("Stable Diffusion without its VAE", file, kept, "sd_mini.no_vae.safetensors",
                ["--exclude", "first_stage_model.*"])
    book.expect("Stable Diffusion's U-Net alone", file, matching(raw, "model.*"), "sd_mini.unet.safetensors",
                ["--include", "model.*", "--ema", "drop"])


def autoencoder_cases(book):
    """An autoencoder whose averages are named after the whole model."""
    shapes = {"encoder.conv_in.weight": (2, 3, 3, 3), "encoder.conv_in.bias": (2,),
              "decoder.conv_out.weight": (3, 2, 3, 3),
              "quant_conv.bias": (4,), "loss.logvar": ()}
    state = OrderedDict((name, normal(*shape, seed=i)) for i, (name, shape) in enumerate(shapes.items()))
    state["loss.discriminator.main.3.running_mean"] = normal(4, seed=20)
    state["loss.discriminator.main.3.num_batches_tracked"] = torch.tensor(9)
    state["model_ema.decay"] = torch.tensor(0.9999)
    state["model_ema.num_updates"] = torch.tensor(11, dtype=torch.int32)
    for i, (name, shape) in enumerate(shapes.items()):
        state["model_ema." + name.replace(".", "")] = normal(*shape, seed=50 + i)
    book.save("vae_ema.ckpt", "a latent-diffusion autoencoder whose averages cover the whole model",
              {"state_dict": state, "epoch": 1})
    state = book.load("vae_ema.ckpt")["state_dict"]
    book.expect("averages of the whole model are dropped", "vae_ema.ckpt", without_ema(state),
                "vae_ema.raw.safetensors",
                ["--ema", "drop"])
    book.expect("averages of the whole model replace its weights", "vae_ema.ckpt", only_ema(state, ""),
                "vae_ema.ema.safetensors", ["--ema", "only"])


# --- files that are refused -------------------------------------------------------------------------------


def unsupported_cases(book):
    """Tensors that safetensors cannot hold: refused by name, and left out on request."""
    matrix = torch.tensor([[0.0, 1.5], [2.5, 0.0]])
    made = {
        "complex128": ("complex128", torch.tensor([1 + 2j], dtype=torch.complex128)),
        "complex32": ("complex32", torch.tensor([1 + 2j], dtype=torch.complex64).to(torch.complex32)),
        "quantized": ("quantized", torch.quantize_per_tensor(matrix, 0.1, 3, torch.qint8)),
        "sparse_coo": ("sparse", matrix.to_sparse()),
        "sparse_csr": ("sparse", matrix.to_sparse_csr()),
        "nested": ("nested", torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])),
        "meta": ("meta", torch.empty(2, 3, device="meta")),
    }
    for kind, (word, tensor) in made.items():
        file = f"x_{kind}.pt"
        book.save(file, f"a {kind} tensor beside a good one", {"weight": normal(2, 2), "bad.part": tensor})
        book.fail(f"a {kind} tensor is refused by name", file, "unsupported", ["bad.part", word, "--exclude"])
        book.expect(f"a {kind} tensor can be left out", file, {"weight": normal(2, 2)}, "x_unsupported.safetensors",
                    ["--exclude", "bad.*"])


def name_failures(book):
    """Names that cannot be written, and files without tensors."""
    tensor = normal(2)
    made = [
        ("x_collision.pt", "two tensors that flatten to one name",
         {"state_dict": {"a": {"b": tensor}, "a.b": normal(2, seed=1)}},
         "names", ["a.b"]),
        ("x_int_and_str.pt", "an int key and a str key that flatten to one name", {0: tensor, "0": normal(2, seed=1)},
         "names", ["0"]),
        ("x_metadata_name.pt", "a tensor named __metadata__", {"__metadata__": tensor, "weight": tensor}, "names",
         ["__metadata__"]),
        ("x_surrogate.pt", "a name that is not valid Unicode", {"bad\ud800name": tensor}, "names", ["Unicode"]),
        ("x_no_tensors.pt", "no tensors at all", {"epoch": 3}, "selection", []),
    ]
    for file, about, value, error, mentions in made:
        book.save(file, about, value)
        book.fail(f"{about}: refused", file, error, mentions)


def ema_failures(book):
    """Averages that are asked for and missing, or of another shape."""
    book.fail("--ema only without averages is an error", "wrap_net.pt", "selection", ["EMA"], ["--ema", "only"])
    book.save("x_ema_shape.ckpt", "an EMA copy of another shape than its parameter", {"state_dict": {
        "model.diffusion_model.out.weight": normal(2, 3), "model_ema.diffusion_modeloutweight": normal(3, 3),
        "model_ema.decay": torch.tensor(0.999), "model_ema.num_updates": torch.tensor(3, dtype=torch.int32)}})
    book.fail("an average of another shape is an error", "x_ema_shape.ckpt", "selection",
              ["model.diffusion_model.out.weight"],
              ["--ema", "only"])


class Dangerous:
    """Asks the reader of a pickle to run a command; it is only ever saved here."""

    def __reduce__(self):
        return os.system, ("echo this must never run",)


def dangerous_cases(book):
    """A pickle that would run a command."""
    weights = small_weights()
    book.save("x_dangerous.pt", "a checkpoint whose pickle calls os.system (never unpickled here)",
              {"state_dict": weights, "hook": Dangerous()})
    book.fail("a dangerous pickle is refused", "x_dangerous.pt", "dangerous", ["posix.system"], status=3)
    book.expect("a dangerous pickle is converted on request, without running", "x_dangerous.pt", weights,
                "wrap_state_dict.safetensors",
                ["--allow-dangerous"])


def not_checkpoints(book):
    """Files that are no checkpoints."""
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "4d7a" * 16 + "\nsize 4265380512\n"
    page = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Please sign in.</body></html>\n"
    plain_zip = io.BytesIO()
    with zipfile.ZipFile(plain_zip, "w") as archive:
        archive.writestr(zip_info("notes/readme.txt"), "not a checkpoint\n")
    made = [
        ("x_empty.pt", "an empty file", b"", ["empty"]),
        ("x_page.pt", "a web page saved as a checkpoint", page.encode(), ["HTML"]),
        ("x_text.pt", "a text file", b"Not a model.\n", []),
        ("x_lfs.pt", "a Git LFS pointer", pointer.encode(), ["Git LFS"]),
        ("x_random.pt", "random bytes", random.Random(0).randbytes(1000), []),
        ("x_plain_zip.pt", "a zip without data.pkl", plain_zip.getvalue(), ["data.pkl"]),
    ]
    for file, about, data, mentions in made:
        book.write(file, about, data)
        book.fail(f"{about}: refused", file, "not a checkpoint", mentions)


# --- zip files that are damaged or unusual ----------------------------------------------------------------


def swapped(parts, sizes):
    """Swap the bytes of every storage in units of its number size and declare them big-endian."""
    made = dict(parts)
    for i, size in enumerate(sizes):
        key = f"data/{i}"
        made[key] = numpy.frombuffer(parts[key], dtype=f"u{size}").byteswap().tobytes()
    made["byteorder"] = b"big"
    return made


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


def zip_cases(book, sizes):
    """Zip files that are unusual but good."""
    parts = records(FIXTURES / "zip.pt")
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
    good, parts = (FIXTURES / "zip.pt").read_bytes(), records(FIXTURES / "zip.pt")
    start = good.index(parts["data/0"])
    flipped = good[:start + 100] + bytes([good[start + 100] ^ 0x10]) + good[start + 101:]
    made = [
        ("x_truncated.pt", "zip.pt cut at 60 %", good[:len(good) * 6 // 10], []),
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
    book.write(file, about, rezip({**records(FIXTURES / "dtypes_v3.pt"), "byteorder": b"big"}))
    book.fail(f"{about}: refused", file, "unsupported", ["wide"])


# --- plain pickles ----------------------------------------------------------------------------------------


def integers():
    """Give integers on both sides of every size that pickle encodes apart."""
    edges = [0, 2**7, 2**8, 2**15, 2**16, 2**31, 2**32, 2**63, 2**64]
    near = [sign * (edge + step) for edge in edges for step in (-1, 0, 1) for sign in (1, -1)]
    return near + [2**2000, -(2**2000), 2**2039 - 1, 2**2039, -(2**2039), -(2**2039) - 1]


def plain_values():
    """Give plain Python values by topic; sets hold only ints, whose order is settled."""
    shared_list, shared_text = [1, 2], "shared text"
    return {
        "singletons": [None, True, False, [None], {"a": True}],
        "ints": integers(),
        "floats": [0.0, -0.0, 1.0, 0.1, -1e308, 5e-324, float("inf"), float("-inf"), float("nan"), 123456789.125],
        "strings": ["", "plain", "é", "重み", "🙂", "line\nfeed", "tab\tquote'\"", "back\\slash", "\\u0041", "nul\x00",
                    "\x1a\r",
                    "\u2028", "x" * 255, "y" * 256, "ü" * 200],
        "bytes": [b"", b"abc", bytes(range(256)), b"\xff" * 300],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), (1, 2, 3, 4, 5), ((), ((1,),))],
        "containers": {"list": [], "nested": [[1], [[2, "x"]]], "dict": {}, "deep": {"a": {"b": {1: (2, None)}}},
                       5: -5},
        "sets": [set(), {1}, {3, 1, 2}, frozenset(), frozenset({7}), frozenset({4, 5, 6})],
        "shared": [shared_list, shared_list, {"x": shared_list, "y": (shared_list, shared_text)}, shared_text,
                   [shared_text]],
        "long_list": [i % 3 == 0 for i in range(2001)],
        "long_dict": {i: None for i in range(2001)},
    }


def recursive_values():
    """Give a list, a dict and a tuple that contain themselves."""
    own_list, own_dict, inner = [1], {"a": 1}, []
    own_list.append(own_list)
    own_dict["self"] = own_dict
    own_tuple = (1, inner)
    inner.append(own_tuple)
    longer = []
    own_longer = (1, 2, 3, longer)
    longer.append(own_longer)
    return [own_list, own_dict, own_tuple, own_longer]


def pickle_files(book):
    """Write plain pickles in every protocol."""
    for topic, value in {**plain_values(), "recursive": recursive_values()}.items():
        for protocol in range(6):
            file = f"pickle/{topic}_{protocol}.pkl"
            book.write(file, f"plain Python {topic} in pickle protocol {protocol}", pickle.dumps(value, protocol))


# --- putting it together ----------------------------------------------------------------------------------


def empty_folder():
    """Start from a folder without files of ours; the other scripts' folders stay."""
    FIXTURES.mkdir(exist_ok=True)
    for path in FIXTURES.iterdir():
        if path.is_file():
            path.unlink()
    shutil.rmtree(FIXTURES / "pickle", ignore_errors=True)
    (FIXTURES / "pickle").mkdir()


README = """# Fixtures

Everything here is written by `scripts/make_fixtures.py`; edit that, not these files.

    python3.11 -m venv venv
    venv/bin/pip install torch=={torch} numpy=={numpy} safetensors=={safetensors}
    venv/bin/python scripts/make_fixtures.py

Made with Python {python}, torch {torch}, numpy {numpy}, safetensors {safetensors}, on {machine}; the CPU
capability torch reports is {capability}. Running the script twice gives the same bytes: `.data/serialization_id`
is derived from the content.

**Reference outputs.** Each checkpoint is loaded with `torch.load`, the tensors that the flags ask for are picked in
Python, made contiguous with conjugation and negation resolved, cast with `Tensor.to`, and written by
`safetensors.torch.save_file(tensors, metadata={{"format": "pt"}})`. Each is loaded again and compared. The two kinds of
input that torch is not asked to load are the dangerous pickle and the tensors that `--exclude` leaves out; there the
tensors that were saved are the reference.

**`manifest.json`** lists the cases: `name`, `input`, `args`, and either `expect` (the output equals this file byte for
byte) or `error`, `exit` and `mentions` (the exit code, and text that the message contains). `error` is a word for the
reader: `unsupported`, `names`, `selection`, `corrupt`, `not a checkpoint`, `dangerous`. Inputs
that are refused without any flag are called `x_…`.

**NaN.** The NaN bits that torch's casts give differ between its vector path and its scalar tail, and between CPU
capabilities. Every tensor with a NaN that is cast here therefore has a multiple of 64 elements, torch runs on one
thread, and the script stops if a result depends on the position of an element. With ATEN_CPU_CAPABILITY=default
the NaN bits of `cast_mix.bf16`, `cast_mix.fp16` and `cast_patterns.fp16` come out differently.

**Optimizer states** come from one real step of the optimizer and may differ in the last bit on another processor.

Besides this page there are {count} files, {size} bytes in all.

| file | content |
|---|---|
{lines}
"""


def own_files():
    """Give the files that this script writes."""
    return [path for folder in (FIXTURES, FIXTURES / "pickle") for path in folder.iterdir() if path.is_file()]


def write_readme(book):
    """Describe where the files come from and what each is for."""
    files = own_files()
    text = README.format(
        **PINNED, python=platform.python_version(), machine=f"{platform.system()} {platform.machine()}",
        capability=torch.backends.cpu.get_cpu_capability(), lines=table_of_files(book), count=len(files),
        size=sum(path.stat().st_size for path in files),
    )
    (FIXTURES / "README.md").write_text(text, encoding="utf-8")


def main():
    """Write the whole folder."""
    check_versions(PINNED)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    empty_folder()
    book, classes = Book(FIXTURES), foreign_classes()
    for make in (dtype_cases, untyped_case, protocol_cases, name_cases, geometry_cases, transpose_cases, tied_cases,
                 wrapped_tensor_cases, cast_cases, wrapper_cases, training_cases, twin_cases, autoencoder_cases,
                 unsupported_cases, name_failures, ema_failures, dangerous_cases, not_checkpoints, pickle_files):
        make(book)
    lightning_cases(book, classes)
    stable_diffusion_cases(book, classes)
    zip_cases(book, zip_source(book))
    damaged_cases(book)
    write_manifest(book)
    write_readme(book)
    for path in own_files():
        path.chmod(0o644)


if __name__ == "__main__":
    main()
