"""The part of fixtures_weights.py about --max-shard-size: Hugging Face's rules for one file and for folders."""

import json
import pathlib
import tempfile

import torch
from huggingface_hub import save_torch_state_dict, split_torch_state_dict_into_shards
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from cases_weights_book import cast_all, sorted_metadata, with_metadata
from fixture_book import FIXTURES, count, normal, plain

INDEX = "pytorch_model.bin.index.json"


# --- what Hugging Face makes of it --------------------------------------------------------------------------


def sharded(tensors, limit, stem, records=(), metadata=(), index=(), variant=""):
    """Split as huggingface_hub does and give the files: shards and index, or the one file.

    `records` are the names of dropped ties, which go where huggingface_hub puts them; `metadata` is what the user adds,
    `index` what the input's index has already."""
    tensors = {name: plain(tensor) for name, tensor in tensors.items()}
    pattern = f"{stem}{variant}{{suffix}}.safetensors"
    split = split_torch_state_dict_into_shards(tensors, filename_pattern=pattern, max_shard_size=limit)
    inside = dict(metadata) if split.is_sharded else {**dict(metadata), **dict(records)}
    files = {file: with_metadata({name: tensors[name] for name in names}, inside)
             for file, names in split.filename_to_tensors.items()}
    if split.is_sharded:
        whole = {"metadata": {**dict(index), **split.metadata, **dict(records)}, "weight_map": split.tensor_to_filename}
        text = json.dumps(whole, indent=2, sort_keys=True) + "\n"
        files[f"{stem}.safetensors.index{variant}.json"] = text.encode()
    return files


def check_real_save(tensors, limit, stem, outputs):
    """Compare with what huggingface_hub itself saves; it does not sort the keys of metadata and of the index."""
    with tempfile.TemporaryDirectory() as folder:
        save_torch_state_dict(dict(tensors), folder, max_shard_size=limit,
                              filename_pattern=f"{stem}{{suffix}}.safetensors")
        real = {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir()}
    assert real.keys() == outputs.keys(), (real.keys(), outputs.keys())
    for name, data in real.items():
        if name.endswith(".json"):
            assert json.loads(data) == json.loads(outputs[name]), name
        else:
            assert sorted_metadata(data) == outputs[name], name


def expect(book, name, file, tensors, limit, output, args=(), size=None, stem=None, **options):
    """Record the files that a limit gives; `size` is how the limit is typed, when that is not how Python takes it."""
    stem = stem or file.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    outputs = sharded(tensors, limit, stem, **options)
    if not options:
        check_real_save({name: plain(tensor) for name, tensor in tensors.items()}, limit, stem, outputs)
    book.expect_folder(name, file, outputs, f"{output}.out", ["--max-shard-size", size or str(limit), *args])
    return outputs


def floats(**sizes):
    """Give float32 tensors of so many bytes each."""
    return {name: normal(size // 4, seed=i) for i, (name, size) in enumerate(sizes.items())}


# --- one file ---------------------------------------------------------------------------------------------


def greedy_cases(book):
    """Which tensor goes where."""
    made = {
        "shard_middle": floats(zeta=40, alpha=60, huge=400, mid=20, beta=100, last=4),
        "shard_first": floats(huge=104, b=40, a=60, c=4),
        "shard_last": floats(b=40, a=60, c=4, huge=104),
        "shard_two_huge": floats(b=40, huge=104, more=108, a=60, c=4, end=200),
        "shard_all_huge": floats(c=104, b=108, a=112),
        "shard_exact": floats(d=100, c=60, b=40, a=52, z=48, y=4),
    }
    for stem, tensors in made.items():
        file = f"{stem}.ckpt"
        sizes = ", ".join(f"{name} {tensor.nbytes}" for name, tensor in tensors.items())
        book.save(file, f"tensors of these sizes in bytes: {sizes}", {"state_dict": tensors})
        expect(book, f"{stem}: shards of 100 bytes", file, tensors, 100, stem)
    tensors, file = made["shard_middle"], "shard_middle.ckpt"
    for limit in (1, 60, 99, 101, 400, 623):
        expect(book, f"shards of {limit} bytes", file, tensors, limit, f"shard_middle.{limit}")
    for limit in (624, 10**12):
        expect(book, f"one shard of {limit} bytes is a plain file", file, tensors, limit, "shard_middle.one")
    mixed = {
        "steps": torch.tensor(9), "mask": torch.tensor([True, False, True]), "half": normal(10, seed=1).half(),
        "double": normal(5, seed=2, dtype=torch.float64), "spread": torch.tensor([[1.0], [2.0]]).expand(2, 10),
        "turned": count(4, 5).t(), "slice": count(100)[10:20], "bytes": count(7, dtype=torch.uint8),
        "float8": normal(16, seed=3).to(torch.float8_e4m3fn), "ünit.🙂\n": normal(2, seed=4), "complex": torch.ones(
            3, dtype=torch.complex64),
    }
    book.save("shard_mixed.pt", "many dtypes, views, and a name that JSON escapes", mixed)
    for limit in (64, 85):
        expect(book, f"dtypes and views in shards of {limit} bytes", "shard_mixed.pt", mixed, limit,
               f"shard_mixed.{limit}")
    empty = {"e1": torch.zeros(0), "a": normal(10), "e2": torch.zeros(0, 3), "b": normal(10, seed=1),
             "e3": torch.zeros(0, dtype=torch.int64), "c": normal(2, seed=2)}
    book.save("shard_empty.pt", "tensors without elements between others", empty)
    expect(book, "tensors without elements are all beside the first", "shard_empty.pt", empty, 40, "shard_empty")


def size_cases(book):
    """How a size is typed."""
    thousand = {"a": normal(125, seed=1), "b": normal(125, seed=2), "c": normal(6, seed=3)}
    file = "shard_thousand.pt"
    book.save(file, "1000 bytes in two tensors, and 24 more", thousand)
    for size, limit in (("1KB", 1000), ("1000", 1000), ("1kb", 1000), ("0.001MB", 1000), ("1.0KB", 1000)):
        assert limit == 1000
        expect(book, f"{size} are 1000 bytes", file, thousand, limit, "shard_thousand.1000", size=size)
    for size in ("1KiB", "1024", "1.024KB", "1MB", "1MiB", "5GB", "1GiB", "2TB", "1TiB"):
        expect(book, f"{size} are enough for 1024 bytes", file, thousand, 1024, "shard_thousand.1024", size=size)
    expect(book, "1023 bytes are not enough for 1024", file, thousand, 1023, "shard_thousand.1000")
    for size in ("", "KB", "abc", "5XB", "-5KB", "1K B", "0", "0KB", "1_000", "nan", "infGB", "0x10", "5GBs"):
        book.refuse(f"{size!r} is no size", file, ["--max-shard-size"], [f"--max-shard-size={size}"])


def option_cases(book):
    """Shards beside the other options."""
    file, tensors = "shard_options.ckpt", {
        "model.z": normal(25, seed=1), "model.a": normal(25, seed=2), "model.m": normal(50, seed=3),
        "model.k": normal(12, seed=4, dtype=torch.float64), "model.b": normal(25, seed=5),
        "model.steps": torch.tensor(3)}
    book.save(file, "a small state dict in an order that is not that of the names", {"state_dict": tensors})
    for flag in ("fp16", "fp8-e5m2", "fp32"):
        expect(book, f"the sizes are those after the cast to {flag}", file, cast_all(tensors, flag), 100,
               f"shard_options.{flag}", ["--dtype", flag])
    kept = cast_all(tensors, "fp16", ["*.m"])
    expect(book, "the sizes are those after the cast, with an exemption", file, kept, 100, "shard_options.kept",
           ["--fp16", "--keep-dtype", "*.m"])
    some = {name: tensor for name, tensor in tensors.items() if name not in ("model.z", "model.m")}
    expect(book, "shards of what is not excluded", file, some, 200, "shard_options.some",
           ["--exclude", "*.[zm]"])
    expect(book, "what is left fits one file", file, some, 1000, "shard_options.one", ["--exclude", "*.[zm]"])
    names = {"model.z": "z", "model.a": "zz", "model.m": "a", "model.k": "k", "model.b": "b", "model.steps": "steps"}
    renamed = {names[name]: tensor for name, tensor in tensors.items()}
    expect(book, "new names do not change the order", file, renamed, 200, "shard_options.names",
           ["--strip-prefix", "model.", "--rename", "a$=>zz", "--rename", "m$=>a"])
    expect(book, "--metadata is in every shard", file, tensors, 200, "shard_options.metadata",
           ["--metadata", "author=me", "--metadata", "format_note=ä=b"],
           metadata={"author": "me", "format_note": "ä=b"})
    expect(book, "--metadata is in the one file", file, tensors, 1000, "shard_options.metadata_one",
           ["--metadata", "author=me"], metadata={"author": "me"})
    book.fail("a collision in shards", file, "names", ['"model.z"', '"model.a"'],
              ["--max-shard-size", "100", "--rename", "[za]$=>x"])
    raw, mean = floats(a=100, b=100), {"b": normal(25, seed=9), "a": normal(25, seed=8)}
    book.save("shard_ema.ckpt", "a model and its averages in another order", {"model": raw, "ema": mean})
    expect(book, "averages in shards, in the model's order", "shard_ema.ckpt", {"a": mean["a"], "b": mean["b"]}, 100,
           "shard_ema", ["--ema", "only"])


def tie_cases(book):
    """Shards with ties."""
    weight, other = normal(25, seed=1), normal(10, seed=2)
    tensors = {"z.embed": weight, "layer": normal(20, seed=3), "a.head": weight, "norm": other, "m.norm": other,
               "end": normal(30, seed=4)}
    file = "shard_ties.ckpt"
    book.save(file, "ties whose names are far apart", {"state_dict": tensors})
    for limit in (100, 200):
        expect(book, f"ties are copied, each counts, {limit} bytes", file, tensors, limit, f"shard_ties.{limit}")
    kept = {name: tensor for name, tensor in tensors.items() if name not in ("z.embed", "norm")}
    records = {"z.embed": "a.head", "norm": "m.norm"}
    for limit in (100, 200):
        outputs = expect(book, f"ties are recorded in the index, {limit} bytes", file, kept, limit,
                         f"shard_ties.alias_{limit}", ["--ties", "alias"], records=records)
        check_real_save(tensors, limit, "shard_ties", outputs)
    outputs = expect(book, "ties are recorded in the one file", file, kept, 1000, "shard_ties.alias_one",
                     ["--ties", "alias"], records=records)
    check_real_save(tensors, 1000, "shard_ties", outputs)
    book.fail("ties in shards are an error on request", file, "ties", ["a.head", "z.embed"],
              ["--max-shard-size", "100", "--ties", "error"])


# --- folders ----------------------------------------------------------------------------------------------


def write_folder(book, folder, about, shards, metadata, index=INDEX):
    """Write a folder of shards and its index."""
    (book.folder / folder).mkdir()
    for file, held in shards.items():
        torch.save(held, book.folder / folder / file)
    whole = {"metadata": metadata, "weight_map": {name: file for file, held in shards.items() for name in held}}
    (book.folder / folder / index).write_text(json.dumps(whole, indent=2, sort_keys=True) + "\n")
    book.about[f"{folder}/"] = about


def folder_cases(book):
    """Sharded input in more or fewer shards, and a distributed checkpoint."""
    shards = {
        "pytorch_model-00001-of-00003.bin": floats(z=40, a=60),
        "pytorch_model-00002-of-00003.bin": {"m": normal(30, seed=7), "b": normal(10, seed=8)},
        "pytorch_model-00003-of-00003.bin": {"y": normal(5, seed=9, dtype=torch.float64), "c": torch.tensor(1)},
    }
    merged = {name: tensor for held in shards.values() for name, tensor in held.items()}
    more = {"total_parameters": 96, "note": "ä"}
    write_folder(book, "shard_three", "three shards; the index has more metadata than total_size", shards,
                 {**more, "total_size": 308})
    for limit in (40, 100, 200, 300):
        expect(book, f"three shards in shards of {limit} bytes, the index's metadata kept", "shard_three", merged,
               limit, f"shard_three.{limit}", stem="model", index=more)
    expect(book, "an index in other shards", f"shard_three/{INDEX}", merged, 100, "shard_three.100", stem="model",
           index=more)
    expect(book, "three shards in one", "shard_three", merged, 308, "shard_three.one", stem="model")
    half = cast_all(merged, "bf16")
    expect(book, "other shards of a cast", "shard_three", half, 100, "shard_three.bf16", ["--bf16"], stem="model",
           index=more)
    shards = {"pytorch_model.fp16-00001-of-00002.bin": {"b": normal(10).half()},
              "pytorch_model.fp16-00002-of-00002.bin": {"a": normal(10, seed=1).half(), "c": normal(4, seed=2).half()}}
    merged = {name: tensor for held in shards.values() for name, tensor in held.items()}
    write_folder(book, "shard_variant", "shards of the variant fp16", shards, {"total_size": 48},
                 "pytorch_model.bin.index.fp16.json")
    for limit, word in ((20, "20"), (48, "one")):
        expect(book, f"a variant in shards of {limit} bytes", "shard_variant", merged, limit, f"shard_variant.{word}",
               stem="model", variant=".fp16")
    first, second = ({"c.weight": normal(3, seed=2)}, {"b.weight": normal(2, 2), "a.weight": normal(2, seed=1)})
    expect(book, "shards of any name are taken in the order of their names", "../distributed/other_names",
           {**first, **second}, 20, "shard_other_names", stem="model")
    with tempfile.NamedTemporaryFile() as made:
        dcp_to_torch_save(FIXTURES / "distributed" / "sharded", made.name)
        model = torch.load(made.name, weights_only=False)["model"]
    expect(book, "a distributed checkpoint in shards", "../distributed/sharded", model, 100, "shard_distributed",
           stem="sharded")


SHARDS = [greedy_cases, size_cases, option_cases, tie_cases, folder_cases]
