"""The part of fixtures_weights.py about averaged weights in trees of their own and in swapped files."""

import itertools
import os
from collections import OrderedDict

import lightning.pytorch
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from fixture_book import normal, settle_small, small_weights

ONLY, DROP = ["--ema", "only"], ["--ema", "drop"]


def network():
    """Make a small module with buffers and settled values."""
    module = settle_small(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3, affine=False)))
    module[1].num_batches_tracked.fill_(17)
    return module


# --- Lightning --------------------------------------------------------------------------------------------


class Regression(lightning.pytorch.LightningModule):
    """A small module with batch statistics."""

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 1))
        self.register_buffer("scale", torch.ones(1))

    def training_step(self, batch, _):
        """Give the squared error."""
        inputs, targets = batch
        return (self.net(inputs) * self.scale - targets).square().mean()

    def configure_optimizers(self):
        """Give Adam."""
        return torch.optim.Adam(self.parameters(), lr=0.125)

    def train_dataloader(self):
        """Give two settled batches."""
        data = torch.utils.data.TensorDataset(normal(8, 4, seed=70), normal(8, 1, seed=71))
        return torch.utils.data.DataLoader(data, batch_size=4)


class Save(Callback):
    """Saves a checkpoint while the average still exists."""

    def on_train_batch_end(self, trainer, *_):
        """Save after the last step."""
        if trainer.global_step == 2:
            trainer.save_checkpoint("run.ckpt")


def lightning_cases(book):
    """Lightning's WeightAveraging: averages in `state_dict`, raw weights in `current_model_state`."""
    for buffers in (True, False):
        averaging = WeightAveraging(avg_fn=get_ema_avg_fn(0.5), use_buffers=buffers)
        module = settle_small(Regression())
        trainer = lightning.pytorch.Trainer(
            accelerator="cpu", devices=1, max_steps=2, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, callbacks=[averaging, Save()],
        )
        trainer.fit(module)
        file = "ema_lightning.ckpt" if buffers else "ema_lightning_params.ckpt"
        with open("run.ckpt", "rb") as made:
            data = made.read()
        assert os.getcwd().encode() not in data
        about = f"Lightning {lightning.__version__} with WeightAveraging(use_buffers={buffers}), after two steps"
        book.write(file, about, data)
        loaded = book.load(file)
        averaged, raw = loaded["state_dict"], loaded["current_model_state"]
        assert averaged.keys() == raw.keys() and loaded["averaging_state"].keys() == {"n_averaged"}
        assert not torch.equal(averaged["net.0.weight"], raw["net.0.weight"])
        stem, said = file.removesuffix(".ckpt"), ["current_model_state"]
        book.expect(f"{about}: state_dict as it is", file, averaged, mentions=said)
        book.expect(f"{about}: state_dict is the average", file, averaged, args=ONLY, mentions=said)
        book.expect(f"{about}: the raw weights", file, raw, f"{stem}.raw.safetensors", DROP, said)
    book.expect("--prune-ema of a swapped file gives the raw weights", file, raw, f"{stem}.raw.safetensors",
                ["--prune-ema"])
    kept = {name: tensor for name, tensor in raw.items() if name.startswith("net.1.")}
    book.expect("raw weights of a swapped file are chosen by name", file, kept, f"{stem}.raw_bn.safetensors",
                [*DROP, "--include", "net.1.*"])


# --- MMEngine ---------------------------------------------------------------------------------------------


def mmengine(**changes):
    """Make a checkpoint in the layout that MMEngine's runner and EMAHook write."""
    model, averaged = network(), settle_small(network(), 60)
    averaged.state_dict()["1.num_batches_tracked"].fill_(0)  # not averaged, and swapped all the same
    raw = OrderedDict(steps=torch.tensor(20))
    raw.update((f"module.{name}", tensor) for name, tensor in model.state_dict().items())
    return {
        "meta": {"epoch": 1, "iter": 20, "cfg": "model = dict()\n", "mmengine_version": "0.10.4"},
        "state_dict": averaged.state_dict(),
        "message_hub": {"log_scalars": OrderedDict(), "runtime_info": OrderedDict(iter=20),
                        "resumed_keys": OrderedDict()},
        "optimizer": {"state": {0: {"exp_avg": normal(3, 2, seed=9)}}, "param_groups": []},
        "param_schedulers": [{"last_step": 20, "_global_step": 21}],
        "ema_state_dict": raw, **changes,
    }


def mmengine_cases(book):
    """MMEngine's EMAHook: averages in `state_dict`, raw weights under `module.` in `ema_state_dict`."""
    made = mmengine()
    about = "MMEngine's EMAHook, written by hand in its layout"
    book.save("ema_mmengine.pth", about, made)
    raw = {name.removeprefix("module."): t for name, t in made["ema_state_dict"].items() if name != "steps"}
    said = ["ema_state_dict"]
    book.expect(f"{about}: state_dict as it is", "ema_mmengine.pth", made["state_dict"], mentions=said)
    book.expect(f"{about}: state_dict is the average", "ema_mmengine.pth", made["state_dict"], args=ONLY, mentions=said)
    book.expect(f"{about}: the raw weights", "ema_mmengine.pth", raw, "ema_mmengine.raw.safetensors", DROP, said)
    more = {**made["state_dict"], "bbox.anchors": normal(2, 2, seed=80)}
    book.save("ema_mmengine_more.pth", f"{about}, with an entry that has no raw counterpart",
              mmengine(state_dict=more))
    book.expect("an entry without a raw counterpart stays", "ema_mmengine_more.pth",
                {**more, **raw}, "ema_mmengine_more.raw.safetensors", DROP)
    other = mmengine()
    del other["message_hub"]
    book.save("ema_not_mmengine.pth", "state_dict and ema_state_dict without a message_hub: nothing is swapped", other)
    book.expect("without message_hub ema_state_dict holds the averages: only", "ema_not_mmengine.pth", raw,
                "ema_not_mmengine.ema.safetensors", ONLY)
    book.expect("without message_hub ema_state_dict holds the averages: drop", "ema_not_mmengine.pth",
                other["state_dict"], args=DROP)
    alone = mmengine()
    del alone["ema_state_dict"]
    book.save("ema_mmengine_without.pth", "MMEngine's runner without EMAHook", alone)
    book.fail("MMEngine without EMAHook has no averages", "ema_mmengine_without.pth", "selection", ["EMA"], ONLY)


# --- twin trees -------------------------------------------------------------------------------------------


def averaged_network(use_buffers=False, avg_fn=None):
    """Take torch's AveragedModel through two updates and give the model and the average."""
    model = network()
    averaged = AveragedModel(model, avg_fn=avg_fn, use_buffers=use_buffers)
    averaged.update_parameters(model)
    settle_small(model, 200)
    averaged.update_parameters(model)
    return model, averaged


def averaged_twin_cases(book):
    """State dicts of torch's AveragedModel beside the model's, under the usual keys."""
    model, averaged = averaged_network()
    raw, tree = model.state_dict(), averaged.state_dict()
    mean = averaged.module.state_dict()
    assert list(tree)[0] == "n_averaged" and not torch.equal(mean["0.weight"], raw["0.weight"])
    keys = [("model", "ema"), ("model_state_dict", "swa_model"), ("state_dict", "swa_state_dict"),
            ("model", "swa_model_state_dict")]
    for key, twin in keys:
        file = f"ema_twin_{twin}.pt"
        book.save(file, f"`{key}` and torch's AveragedModel.state_dict() in `{twin}`",
                  {key: raw, twin: tree, "epoch": 2})
        book.expect(f"AveragedModel in `{twin}` is left out", file, raw, "ema_twin.safetensors")
        book.expect(f"AveragedModel in `{twin}` is dropped", file, raw, "ema_twin.safetensors", DROP)
        book.expect(f"AveragedModel in `{twin}` is used", file, mean, "ema_twin.ema.safetensors", ONLY, [twin])
    book.save("ema_twin_modules.pt", "whole pickled modules: the model and its AveragedModel",
              {"model": model, "swa_model": averaged})
    book.expect("a pickled AveragedModel is left out", "ema_twin_modules.pt", raw, "ema_twin.safetensors")
    book.expect("a pickled AveragedModel is used", "ema_twin_modules.pt", mean, "ema_twin.ema.safetensors", ONLY)
    halves = {name: t.half() if t.is_floating_point() else t for name, t in raw.items()}
    book.save("ema_twin_half.pt", "a model in float16, its AveragedModel in float32", {"model": halves, "ema": tree})
    book.expect("averages keep their own dtype", "ema_twin_half.pt", mean, "ema_twin.ema.safetensors", ONLY)


def twin_edge_cases(book):
    """Twin trees that do not fit the model."""
    raw, mean = small_weights(), small_weights(10)
    extra = normal(2, seed=5)
    for prefix, word in (("", "plain"), ("module.", "module")):
        file = f"ema_unmatched_{word}.pt"
        tree = {prefix + name: tensor for name, tensor in {**mean, "extra.scale": extra}.items()}
        book.save(file, f"a twin tree with an average that the model does not have, names with {prefix!r}",
                  {"model": {**raw, "running": normal(3, seed=6)}, "ema": tree})
        book.expect(f"an unmatched average in a twin tree has its own name, {word}", file,
                    {**mean, "running": normal(3, seed=6), "extra.scale": extra}, "ema_unmatched.ema.safetensors",
                    ONLY, ["extra.scale"])
    made = [
        ("x_ema_strangers.pt", "a twin tree without a single name of the model", {"model": raw, "ema": {"x.y": extra}},
         ["ema"]),
        ("x_ema_twin_shape.pt", "an average of another shape in a twin tree",
         {"model": raw, "ema": {**mean, "layer.bias": normal(4)}}, ["layer.bias"]),
        ("x_ema_two.pt", "two trees of averages", {"model": raw, "ema": mean, "swa_model": mean}, ["ema", "swa_model"]),
        ("x_ema_none.pt", "no averages at all", {"model": raw, "epoch": 1}, ["EMA"]),
    ]
    for file, about, value, mentions in made:
        book.save(file, about, value)
        book.fail(f"--ema only: {about}", file, "selection", mentions, ONLY)
        book.expect(f"--ema drop: {about}", file, raw, "ema_small.safetensors", DROP)
    book.expect("--ema keep without averages", "x_ema_none.pt", raw, "ema_small.safetensors", ["--ema", "keep"])


def only_averages_cases(book):
    """Files that are averages and nothing else."""
    mean = small_weights(10)
    for key in ("ema", "params_ema", "swa_model"):
        file = f"ema_alone_{key}.pt"
        book.save(file, f"averages alone in `{key}`", {key: mean, "epoch": 1})
        for args in ([], ONLY):
            book.expect(f"averages alone in `{key}` are the weights {' '.join(args)}".strip(), file, mean,
                        "ema_alone.safetensors", args)
        book.fail(f"averages alone in `{key}` cannot be dropped", file, "selection", ["left"], DROP)
    names = ["a.weight", "b.bias"]
    state = {"model_ema." + name.replace(".", ""): normal(2, seed=i) for i, name in enumerate(names)}
    state |= {"model_ema.decay": torch.tensor(0.5), "model_ema.num_updates": torch.tensor(3, dtype=torch.int32)}
    book.save("ema_alone_ldm.ckpt", "latent-diffusion's averages without the model", {"state_dict": state})
    book.expect("latent-diffusion's averages alone stay as they are", "ema_alone_ldm.ckpt", state)
    book.fail("latent-diffusion's averages alone cannot be dropped", "ema_alone_ldm.ckpt", "selection", ["left"], DROP)
    book.fail("latent-diffusion's averages alone have no names", "ema_alone_ldm.ckpt", "selection",
              ["model_ema.aweight"], ONLY)


def ldm_cases(book):
    """latent-diffusion's averages that fit no parameter, or two."""
    counters = {"model_ema.decay": torch.tensor(0.5), "model_ema.num_updates": torch.tensor(3, dtype=torch.int32)}
    good = {"model.diffusion_model.out.weight": normal(2, 3), "model.diffusion_model.out.bias": normal(2, seed=1),
            "model_ema.diffusion_modeloutweight": normal(2, 3, seed=2),
            "model_ema.diffusion_modeloutbias": normal(2, seed=3)}
    gone = {"model_ema.diffusion_modelgoneweight": normal(2, seed=4)}
    raw = dict(itertools.islice(good.items(), 2))
    book.save("x_ema_ldm_gone.ckpt", "an average of latent-diffusion's kind without a parameter",
              {"state_dict": {**good, **gone, **counters}})
    book.fail("an average of latent-diffusion's kind without a parameter is named", "x_ema_ldm_gone.ckpt", "selection",
              ["model_ema.diffusion_modelgoneweight"], ONLY)
    book.expect("an average without a parameter can be dropped", "x_ema_ldm_gone.ckpt", raw, "ema_ldm.raw.safetensors",
                DROP)
    twice = {"model.diffusion_model.o.ut.weight": normal(2, 3, seed=5)}
    book.save("x_ema_ldm_twice.ckpt", "two parameters whose names are one without dots",
              {"state_dict": {**good, **twice, **counters}})
    book.fail("an average of two parameters is an error", "x_ema_ldm_twice.ckpt", "selection",
              ["model.diffusion_model.o.ut.weight", "model.diffusion_model.out.weight"], ONLY)
    book.save("ema_ldm_part.ckpt", "latent-diffusion's averages of some parameters",
              {"state_dict": {**good, "model.diffusion_model.new": normal(2, seed=6), **counters}})
    book.expect("what has no average of latent-diffusion's kind comes from the model", "ema_ldm_part.ckpt", {
        "model.diffusion_model.out.weight": good["model_ema.diffusion_modeloutweight"],
        "model.diffusion_model.out.bias": good["model_ema.diffusion_modeloutbias"],
        "model.diffusion_model.new": normal(2, seed=6)}, "ema_ldm_part.ema.safetensors", ONLY)


EMA = [lightning_cases, mmengine_cases, averaged_twin_cases, twin_edge_cases, only_averages_cases, ldm_cases]
