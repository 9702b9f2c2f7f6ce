"""The part of fixtures_weights.py about tensors that share memory: --ties copy, alias, error."""

import re

import safetensors.torch
import torch

from cases_weights_book import cast_all, sorted_metadata
from fixture_book import LEGACY, count, from_bits, normal, settle_small, small_weights

ALIAS, ERROR = ["--ties", "alias"], ["--ties", "error"]


class Tied(torch.nn.Module):
    """A language model's ends: the embedding is the output layer."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(5, 4)
        self.layer = torch.nn.Linear(4, 4)
        self.lm_head = torch.nn.Linear(4, 5, bias=False)
        self.lm_head.weight = self.embed.weight


class Thrice(torch.nn.Module):
    """Two groups of ties, one of three, in an order that is not that of the names."""

    def __init__(self):
        super().__init__()
        self.shared = torch.nn.Embedding(6, 4)
        self.encoder = torch.nn.Embedding(6, 4)
        self.decoder = torch.nn.Embedding(6, 4)
        self.encoder.weight = self.decoder.weight = self.shared.weight
        self.one = torch.nn.Linear(4, 4)
        self.another = torch.nn.Linear(4, 4, bias=False)
        self.another.weight = self.one.weight


def save_model(module):
    """Give the bytes and the metadata that safetensors' save_model writes, with sorted metadata."""
    safetensors.torch.save_model(module, "model.safetensors", {"format": "pt"})
    with open("model.safetensors", "rb") as made:
        data = sorted_metadata(made.read())
    with safetensors.safe_open("model.safetensors", "pt") as opened:
        return data, opened.metadata()


def separate(tensors):
    """Give tensors that share no memory."""
    return {name: tensor.clone() for name, tensor in tensors.items()}


# --- real modules -----------------------------------------------------------------------------------------


def module_cases(book):
    """Ties between the parameters of modules, against safetensors' save_model."""
    for stem, kind in (("tied", Tied), ("thrice", Thrice)):
        module = settle_small(kind())
        state, file = module.state_dict(), f"ties_{stem}.pt"
        book.save(file, f"the state dict of a module with ties: {kind.__doc__}", state)
        data, metadata = save_model(module)
        assert len(metadata) == {"tied": 2, "thrice": 4}[stem], metadata
        loaded = book.load(file)
        book.expect(f"ties of a module are copied, {stem}", file, loaded)
        book.expect(f"ties of a module are copied on request, {stem}", file, loaded, args=["--ties", "copy"])
        book.expect_bytes(f"ties of a module as save_model writes them, {stem}", file, data,
                          f"ties_{stem}.alias.safetensors", ALIAS)
        dropped = sorted(name for name in metadata if name != "format")
        book.fail(f"ties of a module are an error, {stem}", file, "ties", [dropped[0], metadata[dropped[0]]], ERROR)
        rest = {name: tensor for name, tensor in loaded.items() if name not in dropped}
        excluded = [part for name in dropped for part in ("--exclude", name)]
        for mode in (ERROR, ALIAS):
            book.expect(f"what is excluded is tied to nothing, {mode[1]}, {stem}", file, rest,
                        f"ties_{stem}.rest.safetensors", [*mode, *excluded])
    legacy_case(book)


class Holder:
    """Gives a state dict to save_model."""

    def __init__(self, state):
        self.state_dict = lambda: dict(state)


def neighbour_cases(book):
    """Real checkpoints of the folders beside this one."""
    for name in ("bert", "gpt2", "t5"):
        file = f"../frameworks/{name}_pytorch_model.bin"
        data, metadata = save_model(Holder(book.load(file)))
        assert len(metadata) > 1
        book.expect_bytes(f"a {name} model of transformers as save_model writes it", file, data,
                          f"ties_{name}.alias.safetensors", ALIAS)
    file = "../deepspeed/zero1_bf16"
    state = safetensors.torch.load_file(book.folder / f"{file}.safetensors")
    head = state.pop("head.weight")
    assert torch.equal(head, state["embed.weight"])
    book.expect_metadata("a tie that DeepSpeed records", file, state, {"head.weight": "embed.weight"},
                         "ties_deepspeed.alias.safetensors", ALIAS)
    book.fail("a tie that DeepSpeed records is an error on request", file, "ties", ["head.weight", "embed.weight"],
              ERROR)
    state = safetensors.torch.load_file(book.folder / "../deepspeed/eleven.safetensors")
    for args in (ALIAS, ERROR):
        book.expect(f"DeepSpeed's parameters without ties {' '.join(args)}", "../deepspeed/eleven", state,
                    "ties_eleven.safetensors", args)


def legacy_case(book):
    """A tie in the format before the zip, with a settled storage key in the place of an address."""
    weight = normal(2, 3)
    book.save("ties_legacy.pt", "one tensor under two names, legacy stream", {"b": weight, "a": weight}, **LEGACY)
    path = book.folder / "ties_legacy.pt"
    data = path.read_bytes()
    assert len(set(re.findall(rb"X....(\d{12,16})", data, re.DOTALL))) == 1
    key = b"X\x0e\x00\x00\x00" + b"94000000000000"
    path.write_bytes(re.sub(rb"X...\x00\d{12,16}", key, data, flags=re.DOTALL))
    assert torch.equal(torch.load(path)["a"], weight)
    book.expect_metadata("a tie in the legacy format", "ties_legacy.pt", {"a": weight}, {"b": "a"},
                         "ties_legacy.alias.safetensors", ALIAS)


# --- views ------------------------------------------------------------------------------------------------


def view_cases(book):
    """Views of one storage that are tied, and views that are not."""
    base, square, slab = count(12), normal(3, 3), count(40)
    bits = count(8, dtype=torch.uint8)
    wave = torch.complex(normal(3, seed=1), normal(3, seed=2))
    alike = {
        "overlap.first": base[:8], "overlap.second": base[4:], "shape.flat": slab[:6],
        "shape.matrix": slab[:6].view(2, 3), "turned.plain": square, "turned.other": square.t(),
        "kind.bytes": bits, "kind.float8": bits.view(torch.float8_e5m2),
        "wave.plain": wave, "wave.conjugate": wave.conj(), "inside.all": slab[8:16], "inside.part": slab[10:12],
        "steps.all": slab[20:28], "steps.even": slab[20:28:2],
    }
    book.save("ties_views.pt", "views that share memory, and are not the same view", alike)
    loaded = book.load("ties_views.pt")
    assert loaded["wave.conjugate"].is_conj()
    for args in ([], ["--ties", "copy"], ALIAS):
        book.expect(f"other views of the same memory are written in full {' '.join(args)}".strip(), "ties_views.pt",
                    loaded, args=args)
    for group in sorted({name.split(".")[0] for name in alike}):
        names = sorted(name for name in alike if name.startswith(f"{group}."))
        book.fail(f"views that share memory are an error: {group}", "ties_views.pt", "ties", names,
                  [*ERROR, "--include", f"{group}.*"])
    table, turned = count(30).view(5, 6), normal(4, 3)
    tied = {"z.slice": table[1:3], "a.slice": table[1:3], "z.turned": turned.t(), "m.turned": turned.t(),
            "z.last": table[4], "y.last": table[4], "one": table[0]}
    book.save("ties_parts.pt", "the same slices of a storage, the same transposed matrix, under two names each", tied)
    kept = {name: tensor for name, tensor in tied.items() if name not in ("z.slice", "z.turned", "z.last")}
    book.expect_metadata("ties of slices and of transposed matrices", "ties_parts.pt", kept,
                         {"z.slice": "a.slice", "z.turned": "m.turned", "z.last": "y.last"},
                         "ties_parts.alias.safetensors", ALIAS)
    book.expect("ties of slices are copied", "ties_parts.pt", tied)


def flat_cases(book):
    """Views of one storage that share no element, and tensors without elements."""
    flat = normal(40)
    state, offset = {}, 0
    for name, shape in (("embed.weight", (4, 4)), ("layer.weight", (4, 4)), ("layer.bias", (4,)), ("scale", ())):
        size = torch.Size(shape).numel()
        state[name] = flat[offset:offset + size].view(shape)
        offset += size
    book.save("ties_flat.pt", "parameters that are disjoint views of one flat buffer, as DeepSpeed saves them",
              {"module": state})
    for args in ([], ALIAS, ERROR):
        book.expect(f"disjoint views of one buffer are no ties {' '.join(args)}".strip(), "ties_flat.pt",
                    separate(state), args=args)
    some, none = count(6), torch.zeros(0, 3)
    empty = {"a": none, "b": none, "c": some[:0], "d": some[:0], "e": some, "f": some[3:3]}
    book.save("ties_empty.pt", "tensors without elements under several names", empty)
    for args in ([], ALIAS, ERROR):
        book.expect(f"tensors without elements share no memory {' '.join(args)}".strip(), "ties_empty.pt",
                    separate(empty), args=args)
    equal = {"a": normal(3, 3), "b": normal(3, 3)}
    book.save("ties_equal.pt", "tensors of equal values, each with a storage of its own", equal)
    for args in (ALIAS, ERROR):
        book.expect(f"equal values are no ties {' '.join(args)}", "ties_equal.pt", equal, args=args)
    spread = torch.tensor([2.5]).expand(4)
    book.save("ties_expanded.pt", "a tensor that repeats one element", {"spread": spread, "w": normal(2)})
    book.expect("a tensor that overlaps itself is no tie", "ties_expanded.pt", {"spread": spread, "w": normal(2)},
                args=ERROR)


# --- with other options -------------------------------------------------------------------------------------


def together_cases(book):
    """Ties beside casts, names, averages and metadata of the user's own."""
    file = "ties_tied.pt"
    state = book.load(file)
    embed = state["embed.weight"]
    half = cast_all(state, "fp16")
    kept = {name: tensor for name, tensor in half.items() if name != "lm_head.weight"}
    book.expect_metadata("ties are cast together", file, kept, {"lm_head.weight": "embed.weight"},
                         "ties_tied.fp16.alias.safetensors", [*ALIAS, "--fp16"])
    split = {**half, "lm_head.weight": embed}
    book.expect("tensors of other dtypes are not tied", file, split, "ties_tied.split.safetensors",
                [*ALIAS, "--fp16", "--keep-dtype", "lm_head.*"])
    thrice = cast_all(book.load("ties_thrice.pt"), "bf16", ["decoder.*"])
    kept = {name: t for name, t in thrice.items() if name not in ("shared.weight", "one.weight")}
    book.expect_metadata("of three tensors two keep one dtype and are tied", "ties_thrice.pt", kept,
                         {"shared.weight": "encoder.weight", "one.weight": "another.weight"},
                         "ties_thrice.bf16.alias.safetensors", [*ALIAS, "--bf16", "--keep-dtype", "decoder.*"])
    renamed = {name: tensor for name, tensor in state.items() if name != "embed.weight"}
    book.expect_metadata("the name that sorts first in the output is kept", file, renamed,
                         {"zz.weight": "lm_head.weight"}, "ties_tied.renamed.safetensors",
                         [*ALIAS, "--rename", "^embed=>zz"])
    bare = {name.replace("embed.", "e/"): t for name, t in state.items() if name != "lm_head.weight"}
    book.expect_metadata("records hold the names of the output", file, bare, {"头.weight": "e/weight"},
                         "ties_tied.names.safetensors",
                         [*ALIAS, "--rename", r"^embed\.=>e/", "--rename", "^lm_head=>头"])
    alias = {name: t for name, t in state.items() if name != "lm_head.weight"}
    book.expect_metadata("a record beside the user's metadata", file, alias,
                         {"lm_head.weight": "embed.weight", "zeta": "1", "author": "me"},
                         "ties_tied.metadata.safetensors", [*ALIAS, "--metadata", "zeta=1", "--metadata", "author=me"])
    mine = ["--metadata", "lm_head.weight=mine"]
    book.fail("a record and the user's metadata of one name", file, "ties", ["lm_head.weight"], [*ALIAS, *mine])
    book.expect_metadata("the user's metadata may be called like a tensor", file, state, {"lm_head.weight": "mine"},
                         "ties_tied.mine.safetensors", mine)
    other = {"format": embed, "a": embed, "b": normal(2)}
    book.save("ties_format.pt", "a tied tensor called format", other)
    book.fail("the record of a tensor called format", "ties_format.pt", "ties", ['"format"'], ALIAS)
    book.expect("a tensor called format is copied", "ties_format.pt", other, "ties_format.safetensors")
    averages = small_weights(10)
    raw = small_weights()
    raw["tied.weight"] = raw["layer.weight"]
    book.save("ties_ema.pt", "a tie in the model, none among its averages", {"model": raw, "ema": averages})
    book.expect("an average is tied to nothing", "ties_ema.pt", {**averages, "tied.weight": raw["layer.weight"]},
                "ties_ema.ema.safetensors", [*ALIAS, "--ema", "only"])
    bits = from_bits([1, 2, 3, 4], torch.float8_e4m3fn)
    book.save("ties_bytes.pt", "float8 tensors that are one", {"y": bits, "x": bits})
    book.expect_metadata("ties of float8", "ties_bytes.pt", {"x": bits}, {"y": "x"}, "ties_bytes.alias.safetensors",
                         ALIAS)


TIES = [module_cases, neighbour_cases, view_cases, flat_cases, together_cases]
