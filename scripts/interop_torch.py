"""Producers: torch itself, in every container that it writes."""

import torch

from interop_case import Case, compare, compare_outputs, run, snapshot
from interop_consumers import load
from interop_nets import NETWORKS, values

LEGACY = {"_use_new_zipfile_serialization": False}


def loaded(kind, inputs, state, outputs):
    """Load into a new module with load_state_dict; the outputs have to be equal."""
    def check(folder):
        fresh = kind()
        fresh.load_state_dict(load(folder))
        return compare(fresh.state_dict(), state) + compare_outputs(run(fresh, inputs), outputs)
    return {"load_state_dict": check}


def network(name):
    """Every way to save a module."""
    def produce(folder):
        kind, inputs = NETWORKS[name]
        model = kind().eval()
        state, outputs = snapshot(model.state_dict()), run(model, inputs)
        loaders, path = loaded(kind, inputs, state, outputs), folder / "model.pt"
        for protocol in (2, 3, 4, 5):
            torch.save(model.state_dict(), path, pickle_protocol=protocol)
            yield Case(f"torch {name} state dict, protocol {protocol}", path, state, loaders)
        torch.save(model.state_dict(), path, **LEGACY)
        yield Case(f"torch {name} state dict, legacy stream", path, state, loaders)
        torch.save(model, path)
        yield Case(f"torch.save({name} model)", path, state, loaders)
        torch.save(model, path, **LEGACY)
        yield Case(f"torch.save({name} model), legacy stream", path, state, loaders)
        script = torch.jit.script(model)
        torch.jit.save(script, path)
        yield Case(f"torch.jit.save, scripted {name} model", path, snapshot(script.state_dict()))
        traced = torch.jit.trace(model, inputs, check_trace=False)
        torch.jit.save(traced, path)
        yield Case(f"torch.jit.save, traced {name} model", path, snapshot(traced.state_dict()))
        program = torch.export.export(model, (inputs,))
        torch.export.save(program, folder / "model.pt2")
        yield Case(f"torch.export.save, {name} model", folder / "model.pt2", snapshot(program.state_dict))
    return produce


def all_values(folder):
    """Tensors of many dtypes and layouts, in both containers."""
    made = values()
    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
        made[str(dtype)] = torch.randn(3, 5).to(dtype)
    for label, options in (("zip", {}), ("legacy stream", LEGACY)):
        torch.save(made, folder / "values.pt", **options)
        yield Case(f"torch tensors of all kinds, {label}", folder / "values.pt", snapshot(made))


PRODUCERS = [*map(network, NETWORKS), all_values]
