#!/usr/bin/env python3
"""Write fixtures/modules/: whole modules saved with torch.save (see that folder's README.md)."""

import torch
import torch.fx

from fixture_book import LEGACY, normal
from fixture_networks import (
    detection_checkpoint, foreign, sequential_model, settle, weight_norm_model, whole_model,
)
from fixture_run import OLD, write_folder

NOTES = """
**Reference outputs** hold what `torch.load(file).state_dict()` gives, under exactly those names. Legacy files
quote the source of every module class; here these quotes are cut to two lines, and the paths of source files to what
is the same on every machine. The keys of storages in legacy files are memory addresses, so running the script again
gives other keys there, and a storage that comes first in the order of keys may come second; the reference outputs do
not change. All other files stay the same."""


def save_forms(book, stem, about, make):
    """Save one value as a zip, as a zip with pickle protocol 5, and as a legacy stream; give the names of the files."""
    value = make()
    book.save(f"{stem}.pt", about, value)
    book.save(f"{stem}_p5.pt", f"{about}, pickle protocol 5", value, pickle_protocol=5)
    book.save(f"{stem}_legacy.pt", f"{about}, legacy stream", value, **LEGACY)
    for form, kind in (("", ""), ("_legacy", ", legacy stream")):
        book.about[f"{stem}_113{form}.pt"] = f"{about}{kind}, by torch {OLD.version}"
    return [f"{stem}{form}.pt" for form in ("", "_p5", "_legacy", "_113", "_113_legacy")]


def module_cases(book):
    """Modules at the top of a checkpoint, by two versions of torch."""
    made = [
        ("whole", "a module of foreign classes, with all that a state dict keeps and leaves out", whole_model),
        ("sequential", "an nn.Sequential", sequential_model),
    ]
    OLD.write(book, "modules", {})
    for stem, about, make in made:
        for file in save_forms(book, stem, about, make):
            state = book.load(file).state_dict()
            assert not {"plain", "transient", "absent", "unset"} & state.keys()
            book.expect(f"whole module: {book.about[file]}", file, state, f"{stem}.safetensors")


class Backend:
    """A backend for torch.compile that changes nothing; torch's own would bring its settings and their paths along."""

    def __call__(self, graph, inputs):
        """Give what the graph does."""
        return graph.forward

    def __repr__(self):
        return "a backend"


def compiled():
    """Compile a module."""
    backend = foreign("their_project.backends", "Backend", Backend)()
    return torch.compile(sequential_model(), backend=backend)


def wrapper_module_cases(book):
    """Modules that wrap another, or that compute a weight from two."""
    buffered = torch.nn.Linear(1, 1)
    buffered.kept, buffered.dropped = torch.nn.Buffer(normal(2)), torch.nn.Buffer(normal(2), persistent=False)
    made = [
        ("buffers.pt", "buffers made by nn.Buffer", settle(buffered)),
        ("lstm.pt", "an nn.LSTM, which also lists its weights by name",
         settle(torch.nn.LSTM(2, 3, num_layers=2, bidirectional=True))),
        ("graph.pt", "a GraphModule of torch.fx, which is rebuilt from a dict", torch.fx.symbolic_trace(
            sequential_model())),
        ("parallel.pt", "an nn.DataParallel", torch.nn.DataParallel(sequential_model())),
        ("compiled.pt", "what torch.compile makes of a module, with a backend of the user's own", compiled()),
        ("weight_norm.pt", "weight normalization, whose computed weight is no parameter", weight_norm_model()),
        ("single.pt", "a lone nn.Linear", settle(torch.nn.Linear(2, 3))),
        ("list.pt", "an nn.ModuleList with an empty module", settle(torch.nn.ModuleList([
            torch.nn.Identity(), torch.nn.PReLU()]))),
    ]
    for file, about, module in made:
        book.save(file, f"whole module: {about}", module)
        loaded = book.load(file).state_dict()
        assert loaded.keys() == module.state_dict().keys()
        # torch saves a GraphModule as Python source, which runs when it is loaded.
        args = ["--allow-dangerous"] if file == "graph.pt" else []
        book.expect(f"whole module: {about}", file, loaded, args=args)
    book.fail("whole module: source that the file carries is refused", "graph.pt", "dangerous",
              ["reduce_graph_module", "source that the file carries"], status=3)
    odd = foreign("their_project.odd", "Odd", torch.nn.Module)()
    odd.state_dict_, odd.state, odd.ema = (torch.nn.Linear(1, 1) for _ in range(3))
    odd.add_module("module", torch.nn.Linear(2, 1))
    book.save("odd_names.pt", "whole module: submodules called module, ema and state", settle(odd))
    book.expect("whole module: nothing is unwrapped or left out inside a module", "odd_names.pt",
                book.load("odd_names.pt").state_dict())
    linear = torch.ao.quantization.quantize_dynamic(
        torch.nn.Sequential(settle(torch.nn.Linear(2, 2)), torch.nn.LayerNorm(2)), {torch.nn.Linear})
    book.save("x_quantized.pt", "whole module: a dynamically quantized nn.Linear beside an nn.LayerNorm", linear)
    book.fail("whole module: quantized weights are not passed over", "x_quantized.pt", "unsupported",
              ["0._packed_params", "LinearPackedParams"])
    norm = {name: tensor for name, tensor in linear.state_dict().items() if name.startswith("1.")}
    book.expect("whole module: quantized weights can be left out by name", "x_quantized.pt", norm,
                "quantized.norm.safetensors", ["--exclude", "0.*"])
    book.save("x_no_tensors.pt", "whole module: nothing but an activation", torch.nn.Sequential(torch.nn.ReLU()))
    book.fail("whole module: a module without tensors is an error", "x_no_tensors.pt", "selection",
              ["no tensors"])


def training_cases(book):
    """Checkpoints that hold whole modules beside training state."""
    for file in save_forms(book, "detection", "an ultralytics checkpoint: a half-precision module in `model`",
                           detection_checkpoint):
        book.expect(f"whole module: {book.about[file]}", file, book.load(file)["model"].state_dict(),
                    "detection.safetensors")
    detection = detection_checkpoint()
    book.save("detection_ema.pt", "an ultralytics checkpoint whose module is in `ema`",
              {**detection, "model": None, "ema": detection["model"]})
    book.expect("whole module: `ema` holds the module and `model` is None", "detection_ema.pt",
                book.load("detection_ema.pt")["ema"].state_dict())
    model, averaged = settle(torch.nn.Linear(2, 2)), settle(torch.nn.Linear(2, 2))
    with torch.no_grad():
        averaged.weight += 100
    book.save("twin.pt", "two modules, `model` and `ema`", {"model": model, "ema": averaged, "epoch": 1})
    loaded = book.load("twin.pt")
    book.expect("whole module: `model` wins over `ema`", "twin.pt", loaded["model"].state_dict())
    book.expect("whole module: --ema only takes `ema`", "twin.pt", loaded["ema"].state_dict(), "twin.ema.safetensors",
                ["--ema", "only"])
    book.save("two_modules.pt", "two modules of equal rank", {"generator_a": model, "generator_b": averaged})
    loaded = book.load("two_modules.pt")
    book.expect("whole module: two modules keep their keys", "two_modules.pt", {
        f"{key}.{name}": tensor for key, module in loaded.items() for name, tensor in module.state_dict().items()})


if __name__ == "__main__":
    write_folder("fixtures_modules.py", "modules", "Fixtures: whole modules", NOTES,
                 [module_cases, wrapper_module_cases, training_cases], [OLD])
