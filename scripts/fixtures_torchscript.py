#!/usr/bin/env python3
"""Write fixtures/torchscript/: archives of torch.jit.save and of the C++ pickler (see that folder's README.md)."""

import torch

from fixture_book import from_bits, normal
from fixture_networks import Net, Packed, Traced, settle, traced
from fixture_run import OLD, write_folder

NOTES = """
**Reference outputs** hold what `torch.jit.load(file).state_dict()` gives, whose values are the same for every
way of saving one module: it has the non-persistent buffers, but not the plain attributes. The C++ pickler's archives
are read back with `torch._C._pickle_load_obj`. The paths of source files in `code/*.debug_pkl` are cut down to what
is the same on every machine. Running the script twice gives the same bytes."""


def loaded_state(book, file):
    """Give the state dict of a saved ScriptModule."""
    return torch.jit.load(book.folder / file).state_dict()


def jit_save(book, file, about, module, **options):
    """Save a ScriptModule and describe the file."""
    torch.jit.save(module, book.folder / file, **options)
    book.about[file] = about


def lite_save(book, file, about, module, **options):
    """Save a ScriptModule for the lite interpreter and describe the file."""
    module._save_for_lite_interpreter(str(book.folder / file), **options)
    book.about[file] = about


def script_cases(book):
    """A scripted module with every kind of attribute."""
    module = torch.jit.script(settle(Net()))
    jit_save(book, "script.pt", "a scripted module: nested, tied, buffers of all kinds, plain attributes", module)
    lite_save(book, "script_lite.ptl", "the module of script.pt for the lite interpreter", module)
    jit_save(book, "script_extra.pt", "the module of script.pt with extra files", module,
             _extra_files={"labels.txt": "cat\ndog\n", "data.pkl": "no pickle", "deep/config.json": "{}"})
    OLD.write(book, "torchscript", {
        "script_113.pt": "the module of script.pt", "script_lite_113.ptl": "the module of script.pt for mobile",
        "traced_113.pt": "the module of traced.pt"})
    for file in ("script.pt", "script_lite.ptl", "script_extra.pt", "script_113.pt", "script_lite_113.ptl"):
        state = loaded_state(book, file)
        assert "transient" in state and "plain" not in state and "tied.weight" in state
        book.expect(f"TorchScript: {book.about[file]}", file, state, "script.safetensors")


def traced_cases(book):
    """A traced module."""
    jit_save(book, "traced.pt", "a traced module: nested, tied, mangled class names", traced(settle(Traced())))
    for file in ("traced.pt", "traced_113.pt"):
        book.expect(f"TorchScript: {book.about[file]}", file, loaded_state(book, file), "traced.safetensors")


def own_state_case(book):
    """A module with a part that packs its state itself."""
    module = torch.jit.script(torch.nn.Sequential(settle(torch.nn.Linear(2, 2)), Packed()))
    jit_save(book, "own_state.pt", "a scripted module with a part that has a __getstate__ of its own", module)
    state = loaded_state(book, "own_state.pt")
    assert state.keys() == {"0.weight", "0.bias"}
    book.expect("TorchScript: a state of its own holds no parameters", "own_state.pt", state)


def nameless_cases(book):
    """Modules whose state dict is empty, and one that is not in a zip."""
    frozen = torch.jit.freeze(torch.jit.script(settle(Traced())))
    jit_save(book, "x_frozen.pt", "a frozen module: constants instead of parameters", frozen)
    plain = torch.nn.Sequential(settle(torch.nn.Linear(2, 2)))
    quantized = torch.ao.quantization.quantize_dynamic(plain, {torch.nn.Linear})
    jit_save(book, "x_quantized.pt", "a dynamically quantized module: packed parameters", torch.jit.script(quantized))
    for file in ("x_frozen.pt", "x_quantized.pt"):
        assert not loaded_state(book, file)
        book.fail(f"TorchScript without parameters: {book.about[file]}", file, "unsupported", ["TorchScript"])
    lite_save(book, "x_flatbuffer.ptl", "a module in the flatbuffer of PyTorch Mobile",
              torch.jit.script(settle(Traced())), _use_flatbuffer=True)
    book.fail("a flatbuffer of PyTorch Mobile is refused by name", "x_flatbuffer.ptl", "unsupported", ["mobile"])


def pickler_save(book, file, about, value):
    """Save a value with the C++ pickler, as torch::pickle_save does."""
    book.write(file, about, torch._C._pickle_save(value))


def pickler_cases(book):
    """Archives of the C++ pickler that are no modules."""
    tensors = {
        "weight": normal(2, 3), "view": normal(4, 5)[1:3, 2:], "brain": normal(3, dtype=torch.bfloat16),
        "steps": torch.tensor(7), "wave": torch.complex(normal(2), normal(2, seed=1)), "none": torch.zeros(0, 2),
        "grad": normal(2, seed=2).requires_grad_(),
    }
    invented = {
        "wide": torch.tensor([1, 513], dtype=torch.uint16), "longer": torch.tensor([2**63], dtype=torch.uint64),
        "float8": from_bits([0x38, 0x40], torch.float8_e4m3fn), "scale": from_bits([127], torch.float8_e8m0fnu),
    }
    lazy = {"conj": torch.complex(normal(2), normal(2, seed=1)).conj(), "neg": torch._neg_view(normal(3))}
    made = [
        ("pickler_dict.pt", "a dict of tensors", tensors),
        ("pickler_invented.pt", "storage classes that Python's torch lacks", invented),
        ("pickler_lazy.pt", "lazily conjugated and negated tensors", lazy),
    ]
    for file, about, value in made:
        pickler_save(book, file, f"C++ pickler: {about}", value)
        found = torch._C._pickle_load_obj((book.folder / file).read_bytes())
        book.expect(f"C++ pickler: {about}", file, found)
    pickler_save(book, "pickler_list.pt", "C++ pickler: a list of tensors", [normal(2), normal(3)])
    book.expect("C++ pickler: a list of tensors", "pickler_list.pt", {"0": normal(2), "1": normal(3)})
    pickler_save(book, "pickler_tensor.pt", "C++ pickler: a bare tensor", normal(2, 2))
    book.expect("C++ pickler: a bare tensor", "pickler_tensor.pt", {"tensor": normal(2, 2)})


if __name__ == "__main__":
    write_folder("fixtures_torchscript.py", "torchscript", "Fixtures: TorchScript and the C++ pickler", NOTES,
                 [script_cases, traced_cases, own_state_case, nameless_cases, pickler_cases], [OLD])
