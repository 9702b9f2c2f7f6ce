"""The part of fixtures_distributed.py that writes pytorch_model.bin.index.json and the shards it names."""

import json
import re

import torch
from huggingface_hub import split_torch_state_dict_into_shards

from fixture_book import cast, normal, reference_bytes, with_state
from fixture_networks import foreign

INDEX = "pytorch_model.bin.index.json"


# --- writing and expecting --------------------------------------------------------------------------------


def weights():
    """Give the tensors of the small model that is split."""
    return {
        "embed.weight": normal(6, 4), "layer.0.weight": normal(4, 4, seed=1), "layer.0.bias": normal(4, seed=2),
        "layer.1.weight": normal(4, 4, seed=3, dtype=torch.bfloat16), "steps": torch.tensor(9),
        "ünit.🙂": normal(2, seed=4, dtype=torch.float16), "head.weight": normal(6, 4, seed=5),
    }


def split(tensors, pattern, limit):
    """Split as transformers does; give each file's tensors and the size that goes into the index."""
    made = split_torch_state_dict_into_shards(tensors, filename_pattern=pattern, max_shard_size=limit)
    shards = {file: {name: tensors[name] for name in names} for file, names in made.filename_to_tensors.items()}
    return shards, made.metadata


def index_text(metadata, shards):
    """Give the text of an index as transformers' save_pretrained writes it."""
    index = {"weight_map": {name: file for file, held in shards.items() for name in held}}
    if metadata is not None:
        index["metadata"] = metadata
    return json.dumps(index, indent=2, sort_keys=True) + "\n"


def write(book, folder, about, shards, text, index=INDEX, **options):
    """Write a folder of shards with its index."""
    (book.folder / folder).mkdir()
    for file, held in shards.items():
        torch.save(held, book.folder / folder / file, **options)
    (book.folder / folder / index).write_text(text, encoding="utf-8")
    book.about[f"{folder}/"] = about


def total(shards):
    """Give the number of bytes in all tensors."""
    return sum(tensor.numel() * tensor.element_size() for held in shards.values() for tensor in held.values())


def safe_folder(shards, metadata=(), pattern="model-{:05d}-of-{:05d}.safetensors",
                index="model.safetensors.index.json"):
    """Give the files that the same shards make as safetensors, in the order of the shards' names."""
    named = {pattern.format(i + 1, len(shards)): shards[file] for i, file in enumerate(sorted(shards))}
    files = {name: reference_bytes(held) for name, held in named.items()}
    text = index_text({**dict(metadata), "total_size": total(shards)}, named)
    return {**files, index: text.encode()}


def merged(shards):
    """Give all tensors of all shards."""
    return {name: tensor for held in shards.values() for name, tensor in held.items()}


# --- good folders -----------------------------------------------------------------------------------------


def usual_case(book):
    """Three shards as transformers writes them, given as the index and as the folder."""
    shards, metadata = split(weights(), "pytorch_model{suffix}.bin", 150)
    assert len(shards) == 3, list(shards)
    write(book, "three", "three shards, an index, and training arguments beside them", shards,
          index_text(metadata, shards))
    arguments = with_state(foreign("transformers.training_args", "TrainingArguments"), learning_rate=0.1, seed=1)
    torch.save(arguments, book.folder / "three" / "training_args.bin")
    (book.folder / "three" / "config.json").write_text('{"model_type": "small"}\n')
    outputs = safe_folder(shards)
    book.expect_folder("a folder with an index gives shards", "three", outputs, "three.out")
    book.expect_folder("an index gives shards", f"three/{INDEX}", outputs, "three.out")
    book.expect("a folder with an index gives one file", "three", merged(shards))
    book.expect("an index gives one file", f"three/{INDEX}", merged(shards), "three.safetensors")
    half = {file: cast(held, "fp16") for file, held in shards.items()}
    book.expect_folder("shards are cast, with another total_size", "three", safe_folder(half), "three.fp16.out",
                       ["--dtype", "fp16"])
    book.expect("a merged file is cast", "three", cast(merged(shards), "fp16"), "three.fp16.safetensors",
                ["--dtype", "fp16"])


def naming_cases(book):
    """Other names of index and shards."""
    tensors = {"conv.weight": normal(2, 3), "conv.bias": normal(3, seed=1), "out.weight": normal(3, 2, seed=2)}
    prefix = "diffusion_pytorch_model"
    shards, metadata = split(tensors, prefix + "{suffix}.bin", 40)
    write(book, "diffusers", "the names that diffusers uses", shards, index_text(metadata, shards),
          f"{prefix}.bin.index.json")
    book.expect_folder("diffusers' names", "diffusers", safe_folder(
        shards, pattern=prefix + "-{:05d}-of-{:05d}.safetensors", index=f"{prefix}.safetensors.index.json",
    ), "diffusers.out")
    shards, metadata = split(cast(tensors, "fp16"), "pytorch_model.fp16{suffix}.bin", 20)
    write(book, "variant", "the variant fp16, named as transformers does", shards, index_text(metadata, shards),
          "pytorch_model.bin.index.fp16.json")
    outputs = safe_folder(shards, pattern="model.fp16-{:05d}-of-{:05d}.safetensors",
                          index="model.safetensors.index.fp16.json")
    book.expect_folder("a variant", "variant/pytorch_model.bin.index.fp16.json", outputs, "variant.out")
    book.expect_folder("a folder with a variant", "variant", outputs, "variant.out")
    shards = {
        "hf_model_0001_1.pt": {"b.weight": normal(2, 2), "a.weight": normal(2, seed=1)},
        "hf_model_0001_0.pt": {"c.weight": normal(3, seed=2)},
    }
    write(book, "other_names", "shards of any name, no metadata in the index", shards, index_text(None, shards))
    book.expect_folder("shards of any name are numbered in the order of their names", "other_names",
                       safe_folder(shards), "other_names.out")
    book.expect("shards of any name in one file", "other_names", merged(shards))
    more = {"total_parameters": 9, "note": "ä"}
    write(book, "more_metadata", "further metadata in the index, a total_size that is wrong", shards,
          index_text({**more, "total_size": 1}, shards))
    book.expect_folder("further metadata is kept and total_size counted", "more_metadata", safe_folder(shards, more),
                       "more_metadata.out")


def content_cases(book):
    """Legacy shards, and a tensor that two shards hold."""
    base = normal(10)
    shards = {
        "pytorch_model-00001-of-00002.bin": {"a": base[:4].view(2, 2), "b": base[4:]},
        "pytorch_model-00002-of-00002.bin": {"c": normal(2, 3, seed=1)},
    }
    write(book, "legacy", "shards in the format before the zip", shards, index_text({"total_size": 64}, shards),
          _use_new_zipfile_serialization=False)
    for path in sorted((book.folder / "legacy").glob("*.bin")):
        path.write_bytes(settle_keys(path.read_bytes()))
        assert torch.load(path).keys() == shards[path.name].keys()
    book.expect_folder("shards in the legacy format", "legacy", safe_folder(shards), "legacy.out")
    book.expect("shards in the legacy format, merged", "legacy", merged(shards))
    first, second = "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"
    held = {first: {"x": normal(2), "a": normal(3)}, second: {"x": normal(2, seed=1), "b": normal(3, seed=1)}}
    chosen = {first: {"a": held[first]["a"]}, second: held[second]}
    write(book, "twice", "two shards hold x, and the index gives it to the second", held,
          index_text({"total_size": 32}, chosen))
    book.expect_folder("the index decides whose tensor is taken", "twice", safe_folder(chosen), "twice.out")
    book.expect("the index decides, in one file", "twice", merged(chosen))


def settle_keys(data):
    """Replace the storage key of a legacy file, which is an address, by a settled one."""
    assert len(set(re.findall(rb"X....(\d{12,16})", data, re.DOTALL))) == 1
    return re.sub(rb"X...\x00\d{12,16}", b"X\x0e\x00\x00\x00" + b"94000000000000", data, flags=re.DOTALL)


# --- bad folders ------------------------------------------------------------------------------------------


def failures(book):
    """Indexes that do not fit their shards, and file names that lead elsewhere."""
    first, second = "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"
    shards = {first: {"a": normal(2)}, second: {"b": normal(3)}}
    good = index_text({"total_size": 20}, shards)
    absent = index_text({"total_size": 20}, {first: ["a", "lost.weight"], second: ["b"]})
    made = [
        ("x_shard_gone", "a shard is missing", {first: shards[first]}, good, [second]),
        ("x_name_gone", "the index has a name that its shard does not hold", shards, absent, ["lost.weight"]),
        ("x_index_text", "an index that is no JSON", shards, "weights\n", ["index", "JSON"]),
        ("x_index_cut", "an index that is cut", shards, good[:-20], ["index", "EOF"]),
        ("x_index_list", "an index that is a list", shards, "[]\n", ["index", "weight_map"]),
        ("x_index_other", "an index without weight_map", shards, '{"metadata": {"total_size": 20}}\n', ["weight_map"]),
        ("x_index_numbers", "an index that maps a name to a number", shards, '{"weight_map": {"a": 1}}\n',
         ["index", "string"]),
        ("x_index_empty", "an index without tensors", shards, '{"metadata": {}, "weight_map": {}}\n',
         ["index", "no tensors"]),
    ]
    for folder, about, files, text, mentions in made:
        write(book, folder, about, files, text)
        book.fail(f"{about}: refused", f"{folder}/{INDEX}", "sharded", mentions)
    places = {"below": "sub/a.bin", "above": f"../x_shard_gone/{first}", "root": "/etc/hostname", "dots": "..",
              "empty": ""}
    for kind, file in places.items():
        folder = f"x_name_{kind}"
        write(book, folder, f"the index names the file {file!r}", {first: shards[first]},
              index_text({"total_size": 8}, {file: ["a"]}))
        book.fail(f"the file name {file!r} in an index: refused", f"{folder}/{INDEX}", "sharded", [f'"{file}"'])
    write(book, "x_name_backslash", "the index names a file with a backslash", {first: shards[first]},
          index_text({"total_size": 8}, {"sub\\a.bin": ["a"]}))
    book.fail("a backslash in a file name of an index: refused", f"x_name_backslash/{INDEX}", "sharded", ["a.bin"])


def sharded_cases(book):
    """Write every folder with an index."""
    for make in (usual_case, naming_cases, content_cases, failures):
        make(book)
