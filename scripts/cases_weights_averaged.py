"""The part of fixtures_weights.py about torch's AveragedModel inside a state dict, or as the whole of one."""

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from cases_weights_ema import DROP, ONLY, averaged_network, network
from fixture_book import normal, settle_small


class Lit(torch.nn.Module):
    """A module that averages a part of itself."""

    def __init__(self, **options):
        super().__init__()
        self.net = network()
        self.head = settle_small(torch.nn.Linear(2, 2), 90)
        self.ema = AveragedModel(self.net, **options)


class Trunk(torch.nn.Module):
    """A module that averages a part of a part, below a name of two parts."""

    def __init__(self):
        super().__init__()
        self.trunk = torch.nn.ModuleDict({"backbone": network(), "neck": settle_small(torch.nn.Linear(2, 2), 90)})
        self.averages = torch.nn.ModuleDict({"slow": AveragedModel(self.trunk["backbone"])})


class Flat(torch.nn.Sequential):
    """A module whose own layers are averaged."""

    def __init__(self):
        super().__init__(*network())
        self.ema = AveragedModel(torch.nn.Sequential(*self), avg_fn=get_ema_avg_fn(0.25))


class Pair(torch.nn.Module):
    """A generator and a discriminator, each with its average."""

    def __init__(self):
        super().__init__()
        self.generator = settle_small(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2)))
        self.discriminator = settle_small(torch.nn.Bilinear(2, 2, 1), 20)
        self.generator_ema = AveragedModel(self.generator)
        self.discriminator_ema = AveragedModel(self.discriminator)


class Beside(torch.nn.Module):
    """A layer with its average behind another layer, whose parameters have the same names below it."""

    def __init__(self, others):
        super().__init__()
        self.other = settle_small(torch.nn.Linear(2, others), 90)
        self.net = settle_small(torch.nn.Linear(2, 2))
        self.ema = AveragedModel(self.net)


def train(model, *averages):
    """Update the averages before and after new values."""
    for average, source in averages:
        average.update_parameters(source)
    for start, (_, source) in enumerate(averages):
        settle_small(source, 200 + 50 * start)
    for average, source in averages:
        average.update_parameters(source)
    return model.state_dict()


def without(state, *prefixes):
    """Give the entries outside of some modules."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(tuple(f"{p}." for p in prefixes))}


def averaged(state, path, onto):
    """Give a module's averages under the names of the module that is averaged."""
    start = f"{path}.module."
    found = {onto + name.removeprefix(start): tensor for name, tensor in state.items() if name.startswith(start)}
    assert found and found.keys() <= state.keys()
    return found


def three_ways(book, stem, about, value, parts, *path):
    """Expect a file with in-tree averages as it is, without them, and with them in the model's place."""
    file = f"{stem}.ckpt"
    book.save(file, about, value)
    state = book.load(file)
    for key in path:
        state = state[key]
    raw = without(state, *parts)
    only = dict(raw)
    for place, onto in parts.items():
        changed = averaged(state, place, onto)
        assert not all(torch.equal(changed[name], raw[name]) for name in changed)
        only.update(changed)
    book.expect(f"{about}: kept", file, state)
    book.expect(f"{about}: dropped", file, raw, f"{stem}.raw.safetensors", DROP)
    book.expect(f"{about}: only", file, only, f"{stem}.ema.safetensors", ONLY)
    return file, raw, only


def inside_cases(book):
    """An AveragedModel beside the module that it averages."""
    for buffers in (False, True):
        lit = Lit(use_buffers=buffers)
        state = train(lit, (lit.ema, lit.net))
        file, raw, only = three_ways(
            book, f"ema_inside_{'buffers' if buffers else 'params'}",
            f"self.ema = AveragedModel(self.net, use_buffers={buffers}) inside one state dict",
            {"state_dict": state, "epoch": 1}, {"ema": "net."}, "state_dict")
    stem = file.removesuffix(".ckpt")
    book.expect("averages are used before names are chosen", file, {
        name: tensor for name, tensor in only.items() if name.startswith("net.0.")}, f"{stem}.first.safetensors",
        [*ONLY, "--include", "net.0.*"])
    book.expect("excluding the averages' names does not hinder their use", file, only, f"{stem}.ema.safetensors",
                [*ONLY, "--exclude", "ema.*"])
    book.expect("averages in the tree that --root names", file, only, f"{stem}.ema.safetensors",
                [*ONLY, "--root", "state_dict"])
    book.expect("averages under new names", file, {
        name.removeprefix("net."): tensor for name, tensor in only.items()}, f"{stem}.bare.safetensors",
        [*ONLY, "--strip-prefix", "net."])


def deeper_cases(book):
    """AveragedModels below other names, of deeper parts, of everything, and several of them."""
    trunk = Trunk()
    state = train(trunk, (trunk.averages["slow"], trunk.trunk["backbone"]))
    three_ways(book, "ema_deep", "an AveragedModel of trunk.backbone in averages.slow", {"state_dict": state},
               {"averages.slow": "trunk.backbone."}, "state_dict")
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    three_ways(book, "ema_deep_ddp", "the same, saved from DistributedDataParallel: all below module.",
               {"model": wrapped}, {"module.averages.slow": "module.trunk.backbone."}, "model")
    flat = Flat()
    state = train(flat, (flat.ema, torch.nn.Sequential(*list(flat)[:2])))
    three_ways(book, "ema_flat", "an AveragedModel of the module's own layers, without a prefix", state, {"ema": ""})
    pair = Pair()
    state = train(pair, (pair.generator_ema, pair.generator), (pair.discriminator_ema, pair.discriminator))
    three_ways(book, "ema_pair", "two AveragedModels in one state dict", {"state_dict": state},
               {"generator_ema": "generator.", "discriminator_ema": "discriminator."}, "state_dict")


def beside_cases(book):
    """An AveragedModel whose names fit two layers."""
    beside = Beside(3)
    state = train(beside, (beside.ema, beside.net))
    three_ways(book, "ema_shapes_decide", "an AveragedModel whose names fit two layers, its shapes one",
               {"state_dict": state}, {"ema": "net."}, "state_dict")
    beside = Beside(2)
    state = train(beside, (beside.ema, beside.net))
    book.save("x_ema_two_places.ckpt", "an AveragedModel that fits two layers", {"state_dict": state})
    book.fail("an AveragedModel that fits two layers is an error, no guess", "x_ema_two_places.ckpt", "selection",
              ["net", "other"], ONLY)
    book.expect("an AveragedModel that fits two layers can be dropped", "x_ema_two_places.ckpt", without(state, "ema"),
                "ema_two_places.raw.safetensors", DROP)


def several_places_cases(book):
    """An AveragedModel inside the state dict, and other averages elsewhere."""
    lit = Lit()
    state = train(lit, (lit.ema, lit.net))
    raw = without(state, "ema")
    flattened = {"model_ema.decay": torch.tensor(0.5), "model_ema.num_updates": torch.tensor(3, dtype=torch.int32)}
    flattened |= {"model_ema." + name.replace(".", ""): normal(*tensor.shape, seed=7) for name, tensor in raw.items()}
    made = [("x_ema_in_and_beside.pt", {"state_dict": state, "ema": {name: t + 1 for name, t in raw.items()}}),
            ("x_ema_flattened_too.pt", {"state_dict": {**state, **flattened}})]
    for file, value in made:
        about = "an AveragedModel in the state dict, and " + (
            "a twin tree" if "ema" in value else "latent-diffusion's averages")
        book.save(file, about, value)
        book.fail(f"{about}: no guess which is meant", file, "selection", ["ema.module", "ema"], ONLY)
        book.expect(f"{about}: all are dropped", file, raw, "ema_several.raw.safetensors", DROP)


def alone_cases(book):
    """An AveragedModel without the model."""
    _, average = averaged_network(use_buffers=True)
    state = average.state_dict()
    mean = average.module.state_dict()
    for file, value in (("ema_averaged.pt", state), ("ema_averaged_wrapped.pt", {"model": state, "epoch": 1})):
        book.save(file, f"AveragedModel.state_dict() {'in `model`' if 'epoch' in value else 'alone'}", value)
        book.expect(f"{file}: an AveragedModel alone keeps its names", file, state, "ema_averaged.safetensors")
        book.expect(f"{file}: an AveragedModel alone gives the averages", file, mean, "ema_averaged.ema.safetensors",
                    ONLY)
        book.fail(f"{file}: an AveragedModel alone cannot be dropped", file, "selection", ["left"], DROP)
    twice = {"n_averaged": state["n_averaged"], **{f"module.module.{name}": t for name, t in mean.items()}}
    book.save("ema_averaged_ddp.pt", "AveragedModel(DistributedDataParallel(model)).state_dict() alone", twice)
    book.expect("one `module.` belongs to AveragedModel, the other is shown as a hint", "ema_averaged_ddp.pt",
                {f"module.{name}": tensor for name, tensor in mean.items()}, "ema_averaged_ddp.ema.safetensors", ONLY,
                ["--strip-prefix module."])
    book.expect("both `module.` are removed", "ema_averaged_ddp.pt", mean, "ema_averaged.ema.safetensors",
                [*ONLY, "--strip-prefix", "module."])
    below = {f"ema.{name}": tensor for name, tensor in state.items()}
    book.save("ema_averaged_below.pt", "an AveragedModel below `ema.` without a model beside it", {"state_dict": below})
    book.expect("averages without a model beside them lose their prefix", "ema_averaged_below.pt", mean,
                "ema_averaged.ema.safetensors", ONLY)
    book.fail("averages without a model beside them cannot be dropped", "ema_averaged_below.pt", "selection", ["left"],
              DROP)


def failures(book):
    """What only looks like an AveragedModel, and averages that do not fit."""
    model, average = averaged_network()
    raw = {f"net.{name}": tensor for name, tensor in model.state_dict().items()}
    mean = {f"ema.module.{name}": tensor for name, tensor in average.module.state_dict().items()}
    fakes = {"without n_averaged": {}, "whose n_averaged is a float": {"ema.n_averaged": torch.tensor(2.0)},
             "whose n_averaged is no scalar": {"ema.n_averaged": torch.tensor([2])}}
    for i, (about, counter) in enumerate(fakes.items()):
        state = {**raw, **counter, **mean}
        book.save(f"x_ema_fake_{i}.pt", f"`ema.module.*` {about}", {"state_dict": state})
        book.fail(f"`ema.module.*` {about} is no average", f"x_ema_fake_{i}.pt", "selection", ["EMA"], ONLY)
        book.expect(f"`ema.module.*` {about} is not dropped", f"x_ema_fake_{i}.pt", state, args=DROP)
    state = {**raw, "ema.n_averaged": torch.tensor(2), **mean, "ema.module.0.bias": normal(4)}
    book.save("x_ema_inside_shape.pt", "an AveragedModel inside a state dict with another shape", {"state_dict": state})
    book.fail("an average of another shape inside a state dict", "x_ema_inside_shape.pt", "selection", ["net.0.bias"],
              ONLY)


AVERAGED = [inside_cases, deeper_cases, beside_cases, several_places_cases, alone_cases, failures]
