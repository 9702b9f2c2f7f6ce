"""Producers: trainings by Lightning and by plain torch, and distributed checkpoints."""

import argparse
import enum
import os
import pathlib

import lightning.pytorch as pl
import omegaconf
import torch
import torch.distributed.checkpoint as dcp
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, WeightAveraging
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, get_state_dict
from torch.distributed.fsdp import fully_shard
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from interop_case import Case, compare, compare_outputs, half, read_tensors, run, snapshot, write_tensors
from interop_consumers import load

DATA = torch.linspace(-1, 1, 16 * 4).reshape(16, 4).sin()


class Mode(enum.Enum):
    """A class of the user's own in the hyperparameters."""

    FAST = "fast"


def network():
    """A small model with a buffer, batch statistics, a recurrent part and tied weights."""
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.GELU())
            self.rows = torch.nn.LSTM(6, 5, batch_first=True)
            self.last, self.tied = torch.nn.Linear(5, 5), torch.nn.Linear(5, 5)
            self.tied.weight = self.last.weight
            self.register_buffer("scale", torch.tensor(2.0))

        def forward(self, x):
            return self.tied(self.last(self.rows(self.first(x))[0])) * self.scale
    return Network()


def loaded(state, outputs, make=network):
    """Load into a new model with load_state_dict; the outputs have to be equal."""
    def check(folder):
        fresh = make()
        fresh.load_state_dict(load(folder))
        return compare(fresh.state_dict(), state) + compare_outputs(run(fresh, DATA), outputs)
    return {"load_state_dict": check}


def outputs_of(state):
    """Give what a network with a state dict gives."""
    model = network()
    model.load_state_dict(state)
    return run(model, DATA)


def train(model, optimizer, steps=2):
    """Train for some steps."""
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(DATA).square().mean().backward()
        optimizer.step()


# --- Lightning ------------------------------------------------------------------------------------------


class Module(pl.LightningModule):
    """A network with hyperparameters of many kinds."""

    def __init__(self, config, options, folder, mode):
        super().__init__()
        self.save_hyperparameters()
        self.net = network()

    def forward(self, inputs):
        """Run the network."""
        return self.net(inputs)

    def training_step(self, batch, _):
        """Give the loss."""
        loss = self(batch[0]).square().mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        """Give AdamW and a scheduler."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    def train_dataloader(self):
        """Give the batches."""
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(DATA), batch_size=8)


class Recorder(Callback):
    """Keeps the tensors that are in memory before a checkpoint is written."""

    def __init__(self, averaging=None):
        self.averaging = averaging

    def on_train_batch_end(self, trainer, module, *_):
        """Copy the weights, and the averages where there are some."""
        self.raw = snapshot(module.state_dict())
        if self.averaging is not None:
            self.averaged = snapshot(self.averaging._average_model.module.state_dict())


def fresh_module():
    """Make a module with hyperparameters."""
    config = omegaconf.OmegaConf.create({"data": {"size": [32, 32]}, "lr": 0.01, "same": "${lr}"})
    return Module(config, argparse.Namespace(seed=7), pathlib.Path("runs/1"), Mode.FAST)


def lightning_run(folder, *callbacks):
    """Train for two steps; give the checkpoint."""
    saver = ModelCheckpoint(folder, "run", every_n_train_steps=2)
    trainer = pl.Trainer(accelerator="cpu", devices=1, max_steps=2, logger=False, enable_progress_bar=False,
                         enable_model_summary=False, callbacks=[EarlyStopping("loss"), *callbacks, saver])
    trainer.fit(fresh_module())
    return pathlib.Path(saver.best_model_path)


def module_outputs(state):
    """Give what a module with a state dict gives."""
    module = fresh_module()
    module.load_state_dict(state)
    return run(module, DATA)


def lightning_plain(folder):
    """A run with a checkpoint callback."""
    recorder = Recorder()
    source = lightning_run(folder, recorder)
    state = recorder.raw
    yield Case("Lightning ModelCheckpoint", source, state, loaded(state, module_outputs(state), fresh_module))
    short = {name.removeprefix("net."): tensor for name, tensor in state.items()}
    yield Case("the same, --strip-prefix net.", source, short, loaded(short, outputs_of(short)),
               ("--strip-prefix", "net."))
    yield Case("the same, --fp16", source, half(state), {}, ("--fp16",))


def lightning_averaged(folder):
    """A run with weight averaging, whose state dict is the average."""
    averaging = WeightAveraging(avg_fn=get_ema_avg_fn(0.5))
    recorder = Recorder(averaging)
    source = lightning_run(folder, averaging, recorder)
    for options, state in (((), recorder.averaged), (("--ema", "only"), recorder.averaged),
                           (("--ema", "drop"), recorder.raw)):
        yield Case(f"Lightning WeightAveraging{', ' * bool(options)}{' '.join(options)}", source, state,
                   loaded(state, module_outputs(state), fresh_module), options)


# --- loops of one's own ---------------------------------------------------------------------------------


def optimizer_laden(folder):
    """A loop that saves everything, with each optimizer."""
    makers = {"AdamW, amsgrad": lambda p: torch.optim.AdamW(p, amsgrad=True), "Adafactor": torch.optim.Adafactor,
              "SGD, momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), "LBFGS": torch.optim.LBFGS}
    for label, make in makers.items():
        model = network()
        optimizer = make(model.parameters())
        if label == "LBFGS":
            optimizer.step(lambda: backward(model))
        else:
            train(model, optimizer)
        state, path = snapshot(model.state_dict()), folder / "last.pt"
        scaler = torch.amp.GradScaler("cpu")
        torch.save({"model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict(),
                    "scaler": scaler.state_dict(), "epoch": 3, "loss": torch.tensor(0.5), "history": [torch.ones(2)]}, path)
        yield Case(f"a training loop, {label}", path, state, loaded(state, outputs_of(state)))


def backward(model):
    """Give the loss after its gradients were computed."""
    model.zero_grad()
    loss = model(DATA).square().mean()
    loss.backward()
    return loss


def averaged_model(folder):
    """torch's AveragedModel: its own state dict, and a tree beside the model's."""
    model = network()
    averaged = AveragedModel(model, avg_fn=get_ema_avg_fn(0.5), use_buffers=True)
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(3):
        train(model, optimizer, 1)
        averaged.update_parameters(model)
    state, whole = snapshot(averaged.module.state_dict()), snapshot(averaged.state_dict())
    raw = snapshot(model.state_dict())
    torch.save(averaged.state_dict(), folder / "averaged.pt")
    yield Case("torch AveragedModel", folder / "averaged.pt", whole)
    yield Case("the same, --ema only", folder / "averaged.pt", state, loaded(state, outputs_of(state)), ("--ema", "only"))
    torch.save({"model": model.state_dict(), "model_ema": averaged.state_dict()}, folder / "both.pt")
    yield Case("a loop with AveragedModel, --prune-ema", folder / "both.pt", raw, loaded(raw, outputs_of(raw)),
               ("--prune-ema",))
    yield Case("a loop with AveragedModel, --ema only", folder / "both.pt", state, loaded(state, outputs_of(state)),
               ("--ema", "only"))


# --- distributed checkpoints ----------------------------------------------------------------------------


def distributed(folder):
    """torch.distributed.checkpoint of one process: a state dict, and one beside an optimizer."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    train(model, optimizer)
    state = snapshot(model.state_dict())
    dcp.save(model.state_dict(), checkpoint_id=folder / "flat", no_dist=True)
    yield Case("DCP, state dict", folder / "flat", state, loaded(state, outputs_of(state)))
    dcp.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3},
             checkpoint_id=folder / "training", no_dist=True)
    yield Case("DCP, model and AdamW", folder / "training", state, loaded(state, outputs_of(state)))


def rank(number, folder, result):
    """One of two processes of FSDP2; the first also saves the whole weights."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.distributed.init_process_group("gloo", store=torch.distributed.FileStore(str(folder / "store"), 2), rank=number,
                                         world_size=2)
    torch.manual_seed(number)
    model = torch.nn.Sequential(torch.nn.Linear(4, 7), torch.nn.LayerNorm(7), torch.nn.Linear(7, 3))
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (2,))
    for part in (*model, model):
        fully_shard(part, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters())
    train(model, optimizer)
    states = dict(zip(("model", "optimizer"), get_state_dict(model, optimizer)))
    dcp.save(states, checkpoint_id=folder / "sharded")
    whole = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    if number == 0:
        write_tensors(result, whole)
    torch.distributed.destroy_process_group()
    # Do not return: gloo's threads outlive the group, and one that still has to release a tensor
    # needs Python's GIL. If Python is already shutting down, it exits that thread inside a C++
    # destructor, and the process dies with SIGABRT.
    os._exit(0)


def sharded_by_fsdp(folder):
    """FSDP2 in two processes, each with its own chunks."""
    torch.multiprocessing.start_processes(rank, (folder, folder / "whole"), nprocs=2, start_method="spawn")
    state = read_tensors(folder / "whole")

    def make():
        return torch.nn.Sequential(torch.nn.Linear(4, 7), torch.nn.LayerNorm(7), torch.nn.Linear(7, 3))
    model = make()
    model.load_state_dict(state)
    yield Case("DCP, FSDP2 of two processes, AdamW", folder / "sharded", state, loaded(state, run(model, DATA), make))


PRODUCERS = [lightning_plain, lightning_averaged, optimizer_laden, averaged_model, distributed, sharded_by_fsdp]
