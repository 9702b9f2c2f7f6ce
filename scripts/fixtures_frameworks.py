#!/usr/bin/env python3
"""Write fixtures/frameworks/: checkpoints as the frameworks around torch write them, most saved by the real ones.

    python3.11 -m venv venv
    venv/bin/pip install torch==2.15.0 numpy==2.4.6 safetensors==0.8.0 lightning==2.6.6 omegaconf==2.4.0 \
        timm==1.0.31 transformers==5.23.0 accelerate==1.15.0 peft==0.21.2 diffusers==0.42.1 \
        ultralytics==8.4.190 ema-pytorch==0.8.3
    venv/bin/python scripts/fixtures_frameworks.py

Nothing is downloaded: every model is tiny and has settled values. The expected outputs are the tensors that the
framework itself gives, or that torch.load gives, written by the safetensors package, never by ckpt2st.
"""

import argparse
import enum
import fractions
import logging
import os
import pathlib
import platform
import shutil
import sys
import tempfile
import warnings
from collections import OrderedDict

if __name__ == "__main__" and os.environ.get("PYTHONHASHSEED") != "0":
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})
WORK = tempfile.mkdtemp()
os.environ.update({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1",
                   "YOLO_CONFIG_DIR": WORK, "YOLO_OFFLINE": "1", "YOLO_VERBOSE": "false"})

import diffusers
import diffusers.training_utils
import lightning.pytorch
import numpy
import omegaconf
import peft
import timm.models.convmixer
import timm.utils
import torch
import transformers
from ema_pytorch import EMA
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import IterableSimpleNamespace
from ultralytics.utils.torch_utils import strip_optimizer

from fixture_book import (
    FIXTURES, Book, adam_state, check_versions, empty_folder, flatten, foreign, network, normal, small_weights,
    table_of_files, with_state, write_manifest,
)

FOLDER = FIXTURES / "frameworks"
PINNED = {
    "torch": "2.15.0", "numpy": "2.4.6", "safetensors": "0.8.0", "lightning": "2.6.6", "omegaconf": "2.4.0",
    "timm": "1.0.31", "transformers": "5.23.0", "accelerate": "1.15.0", "peft": "0.21.2", "diffusers": "0.42.1",
    "ultralytics": "8.4.190", "ema-pytorch": "0.8.3",
}
DATE = "2026-01-02T03:04:05+00:00"


# --- shared ---------------------------------------------------------------------------------------------------


def settle(module, start=0):
    """Give a module settled small values in the place of its random ones."""
    with torch.no_grad():
        for seed, tensor in enumerate(module.state_dict().values(), start):
            if tensor.is_floating_point():
                tensor.copy_(normal(*tensor.shape, seed=seed) * 0.1)
    return module


def shapes_of(weights):
    """Give the shapes of a state dict's floating tensors."""
    return [tuple(tensor.shape) for tensor in weights.values() if tensor.is_floating_point()]


def same(left, right):
    """Make sure that two state dicts hold the same names and values."""
    assert left.keys() == right.keys(), left.keys() ^ right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def adopt(book, file, about, path):
    """Take over a file that a framework wrote, without names of the machine inside."""
    data = pathlib.Path(path).read_bytes()
    for word in (os.getcwd(), tempfile.gettempdir() + "/", sys.prefix):
        assert word.encode() not in data, (file, word)
    book.write(file, about, data)


def plain_case(book, file, about, value, *path, name=None):
    """Save a value and expect the tensors at a path of keys."""
    book.save(file, about, value)
    chosen = book.load(file)
    for key in path:
        chosen = chosen[key]
    book.expect(name or about, file, flatten(chosen))


# --- Lightning ------------------------------------------------------------------------------------------------


class Mode(enum.Enum):
    """An enum among the hyperparameters."""

    FAST = "fast"


class Settings:
    """A class of the user's own among the hyperparameters."""

    def __init__(self, depth):
        self.depth = depth


class Regression(lightning.pytorch.LightningModule):
    """A module with a buffer, batch statistics and hyperparameters of many kinds."""

    def __init__(self, config, options, folder, mode, own):
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 1))
        self.register_buffer("scale", torch.ones(1))

    def training_step(self, batch, _):
        """Give the squared error."""
        inputs, targets = batch
        loss = (self.net(inputs) * self.scale - targets).square().mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        """Give Adam and a scheduler."""
        optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    def train_dataloader(self):
        """Give two settled batches."""
        data = torch.utils.data.TensorDataset(normal(8, 4, seed=70), normal(8, 1, seed=71))
        return torch.utils.data.DataLoader(data, batch_size=4)

    def on_save_checkpoint(self, checkpoint):
        """Make the paths in the callbacks' states relative."""
        if "callbacks" in checkpoint:
            checkpoint["callbacks"] = relative(checkpoint["callbacks"])


def relative(value):
    """Cut the working folder off every path."""
    if isinstance(value, dict):
        return {relative(key): relative(item) for key, item in value.items()}
    return value.replace(f"{os.getcwd()}/", "") if isinstance(value, str) else value


def lightning_run(*callbacks, weights_only=False):
    """Train for two steps and give the module and the checkpoint that was written meanwhile."""
    config = omegaconf.OmegaConf.create({"data": {"root": "data/images", "size": [32, 32]}, "lr": 0.01})
    module = settle(Regression(config, argparse.Namespace(seed=7, tags=["a"]), pathlib.Path("runs/1"),
                               Mode.FAST, Settings(2)))
    saver = ModelCheckpoint("runs", "run", "loss", every_n_train_steps=2, save_weights_only=weights_only)
    trainer = lightning.pytorch.Trainer(
        accelerator="cpu", devices=1, max_steps=2, logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[EarlyStopping("loss"), *callbacks, saver],
    )
    trainer.fit(module)
    path = pathlib.Path(saver.best_model_path)
    path = path.rename(path.with_name("taken.ckpt"))
    return module, path


def lightning_cases(book):
    """Real Lightning runs."""
    module, path = lightning_run()
    adopt(book, "lightning.ckpt", "Lightning's ModelCheckpoint: callbacks, loops, Adam, hyperparameters with a "
          "DictConfig, a Namespace, a path, an enum and a class of the user's own", path)
    state = book.load("lightning.ckpt")["state_dict"]
    same(state, module.state_dict())
    book.expect("a Lightning run gives its state dict", "lightning.ckpt", state)
    module, path = lightning_run(weights_only=True)
    adopt(book, "lightning_weights.ckpt", "Lightning's ModelCheckpoint with save_weights_only", path)
    state = book.load("lightning_weights.ckpt")["state_dict"]
    same(state, module.state_dict())
    book.expect("Lightning's weights alone give the state dict", "lightning_weights.ckpt", state,
                "lightning.safetensors")
    averaging = WeightAveraging(avg_fn=torch.optim.swa_utils.get_ema_avg_fn(0.5))
    path = lightning_run(averaging)[1]
    adopt(book, "lightning_averaged.ckpt", "Lightning's WeightAveraging: `state_dict` holds the averages, "
          "`current_model_state` the raw weights", path)
    loaded = book.load("lightning_averaged.ckpt")
    assert not torch.equal(loaded["state_dict"]["net.0.weight"], loaded["current_model_state"]["net.0.weight"])
    book.expect("Lightning's averaged weights are its state dict", "lightning_averaged.ckpt", loaded["state_dict"])
    book.expect("Lightning's raw weights beside the averages are a root", "lightning_averaged.ckpt",
                loaded["current_model_state"], "lightning_averaged.raw.safetensors",
                ["--root", "current_model_state"])


# --- timm -----------------------------------------------------------------------------------------------------


def timm_cases(book):
    """timm's CheckpointSaver with both kinds of averaging."""
    for file, kind in (("timm_v2.pth.tar", timm.utils.ModelEmaV2), ("timm_v3.pth.tar", timm.utils.ModelEmaV3)):
        model = settle(timm.models.convmixer.ConvMixer(4, 1, kernel_size=3, patch_size=2, num_classes=3))
        ema = kind(model, decay=0.75)
        settle(model, 200)
        ema.update(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        model(normal(2, 3, 4, 4)).sum().backward()
        optimizer.step()
        args = argparse.Namespace(model="convmixer_test", lr=0.1, aug_splits=0, opt="sgd", img_size=[4, 4])
        timm.utils.CheckpointSaver(model, optimizer, args, ema, checkpoint_dir=".").save_checkpoint(3, 71.5)
        adopt(book, file, f"timm's CheckpointSaver with {kind.__name__}", "checkpoint-3.pth.tar")
        loaded = book.load(file)
        same(loaded["state_dict"], model.state_dict())
        same(loaded["state_dict_ema"], ema.module.state_dict())
        raw, averaged = loaded["state_dict"], loaded["state_dict_ema"]
        stem = file.removesuffix(".pth.tar")
        book.expect(f"timm with {kind.__name__} gives its state dict", file, raw, f"{stem}.safetensors")
        book.expect(f"timm with {kind.__name__} without averages", file, raw, f"{stem}.safetensors", ["--ema", "drop"])
        book.expect(f"timm with {kind.__name__}, averages and averaged buffers", file, averaged,
                    f"{stem}.ema.safetensors", ["--ema", "only"])


# --- transformers, peft, diffusers ------------------------------------------------------------------------------


def tiny_gpt2():
    """Make a GPT-2 with one block."""
    config = transformers.GPT2Config(vocab_size=11, n_positions=6, n_embd=4, n_layer=1, n_head=2)
    return settle(transformers.GPT2LMHeadModel(config))


def transformers_cases(book):
    """State dicts of models with tied embeddings, as pytorch_model.bin holds them."""
    bert = transformers.BertConfig(vocab_size=11, hidden_size=4, num_hidden_layers=1, num_attention_heads=2,
                                   intermediate_size=6, max_position_embeddings=5)
    t5 = transformers.T5Config(vocab_size=11, d_model=4, d_kv=2, d_ff=6, num_layers=1, num_heads=2,
                               decoder_start_token_id=0)
    made = {
        "bert": settle(transformers.BertForMaskedLM(bert)), "gpt2": tiny_gpt2(),
        "t5": settle(transformers.T5ForConditionalGeneration(t5)),
    }
    for name, model in made.items():
        file = f"{name}_pytorch_model.bin"
        state = model.state_dict()
        storages = {tensor.untyped_storage().data_ptr() for tensor in state.values()}
        assert len(storages) < len(state), "no tied weights"
        book.save(file, f"the state dict of transformers' {type(model).__name__}, with tied weights", state)
        book.expect(f"a {name} model keeps its tied weights under all names", file, state)


def trainer_cases(book):
    """What transformers' Trainer writes beside the model."""
    data = [{"input_ids": [1, 2, 3, 4], "labels": [1, 2, 3, 4]}] * 2
    args = transformers.TrainingArguments(
        "trainer", max_steps=1, save_steps=1, per_device_train_batch_size=2, use_cpu=True, report_to=[],
        disable_tqdm=True, logging_strategy="no", dataloader_pin_memory=False,
    )
    trainer = transformers.Trainer(tiny_gpt2(), args, train_dataset=data)
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    folder = pathlib.Path("trainer/checkpoint-1")
    made = [("training_args.bin", "the pickled TrainingArguments of transformers' Trainer"),
            ("scheduler.pt", "the scheduler's state of transformers' Trainer")]
    for file, about in made:
        adopt(book, file, about, folder / file)
        book.fail(f"{about} holds no tensors", file, "selection", ["tensors"])
    adopt(book, "optimizer.pt", "the optimizer's state of transformers' Trainer (AdamW)", folder / "optimizer.pt")
    state = book.load("optimizer.pt")
    book.expect("an optimizer's state alone gives its tensors under their paths", "optimizer.pt", flatten(state))
    assert all(name.startswith("state.") for name in flatten(state))


def peft_case(book):
    """A LoRA adapter saved by peft."""
    config = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM")
    model = settle(peft.get_peft_model(tiny_gpt2(), config))
    model.save_pretrained("adapter", safe_serialization=False)
    adopt(book, "adapter_model.bin", "a LoRA adapter saved by peft", "adapter/adapter_model.bin")
    state = peft.get_peft_model_state_dict(model)
    same(state, book.load("adapter_model.bin"))
    book.expect("a LoRA adapter keeps peft's names", "adapter_model.bin", state)


def diffusers_cases(book):
    """Diffusers models, and averages without names."""
    unet = settle(diffusers.UNet2DConditionModel(
        sample_size=4, in_channels=2, out_channels=2, block_out_channels=(4,), layers_per_block=1, norm_num_groups=2,
        cross_attention_dim=3, attention_head_dim=2, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
    ))
    vae = settle(diffusers.AutoencoderKL(block_out_channels=(4,), norm_num_groups=2, latent_channels=2, sample_size=4))
    for name, model in (("unet", unet), ("vae", vae)):
        file = f"{name}_diffusion_pytorch_model.bin"
        model.save_pretrained(name, safe_serialization=False)
        adopt(book, file, f"a tiny {type(model).__name__} saved by diffusers", f"{name}/diffusion_pytorch_model.bin")
        same(model.state_dict(), book.load(file))
        book.expect(f"diffusers' {name} keeps its names", file, model.state_dict())
    module = network()
    ema = diffusers.training_utils.EMAModel(module.parameters(), decay=0.5)
    settle(module)
    ema.step(module.parameters())
    book.save("diffusers_ema.pt", "the state of diffusers' EMAModel: averages in a list, without names",
              ema.state_dict())
    shadows = book.load("diffusers_ema.pt")["shadow_params"]
    book.expect("a lone list keeps its key before the positions", "diffusers_ema.pt",
                {f"shadow_params.{i}": tensor for i, tensor in enumerate(shadows)})


# --- ultralytics and YOLOv7 ---------------------------------------------------------------------------------------


def tiny_detector(start):
    """Make a real detection model with two convolutions and one head, in half precision."""
    model = DetectionModel({
        "nc": 2, "reg_max": 1, "backbone": [[-1, 1, "Conv", [4, 3, 2]], [-1, 1, "Conv", [8, 3, 2]]],
        "head": [[[1], 1, "Detect", ["nc"]]], "depth_multiple": 1.0, "width_multiple": 1.0,
    }, ch=3, verbose=False)
    model.args = IterableSimpleNamespace(box=7.5, cls=0.5, imgsz=32)
    return settle(model, start).half()


def ultralytics_cases(book):
    """A detector during training, with whole modules, and after ultralytics has stripped it."""
    ema = tiny_detector(0)
    args = {"model": "tiny.yaml", "data": "coco8.yaml", "epochs": 3, "imgsz": 32, "task": "detect"}
    checkpoint = {
        "epoch": 2, "best_fitness": numpy.float64(0.5), "stopper": {"best_fitness": 0.5, "best_epoch": 2},
        "model": None, "ema": ema, "updates": 12, "modelopt": None,
        "optimizer": adam_state([tuple(p.shape) for p in ema.parameters()][:4]), "scaler": {}, "train_args": args,
        "train_metrics": {"metrics/mAP50(B)": 0.25, "fitness": 0.5}, "train_results": {"epoch": [1, 2]},
        "date": DATE, "version": PINNED["ultralytics"], "git": {"root": "None", "branch": None},
        "license": "AGPL-3.0 (https://ultralytics.com/license)", "docs": "https://docs.ultralytics.com",
    }
    book.save("ultralytics_last.pt", "ultralytics during training: `model` is None, `ema` is the whole module",
              checkpoint)
    state = ema.state_dict()
    assert "model.0.conv.weight" in state and state["model.0.conv.weight"].dtype == torch.float16
    book.expect("ultralytics' averaged module keeps its own names", "ultralytics_last.pt", state,
                "ultralytics.safetensors")
    strip_optimizer(FOLDER / "ultralytics_last.pt", "best.pt", {"train_args": args})
    adopt(book, "ultralytics_best.pt", "ultralytics after strip_optimizer: `model` is the whole module", "best.pt")
    same(state, book.load("ultralytics_best.pt")["model"].state_dict())
    book.expect("ultralytics' module keeps its own names", "ultralytics_best.pt", state, "ultralytics.safetensors")
    both = {**checkpoint, "model": tiny_detector(100)}
    book.save("ultralytics_both.pt", "older ultralytics during training: `model` and `ema` are whole modules", both)
    book.expect("a module wins over its averages", "ultralytics_both.pt", both["model"].state_dict())
    book.expect("a module's averages on request", "ultralytics_both.pt", state, "ultralytics.safetensors",
                ["--ema", "only"])


def yolov7_model(classes, start):
    """Make a small model of YOLOv7's own classes."""
    made, first, head = (kind() for kind in classes)
    first.conv, first.bn = torch.nn.Conv2d(3, 4, 3, bias=False), torch.nn.BatchNorm2d(4)
    first.act = torch.nn.SiLU()
    head.stride, head.grid, head.nc = torch.tensor([8.0]), [torch.zeros(1)], 2
    head.register_buffer("anchors", torch.ones(1, 3, 2))
    head.register_buffer("anchor_grid", torch.ones(1, 1, 3, 1, 1, 2))
    head.register_buffer("scratch", torch.ones(2), persistent=False)
    head.m = torch.nn.ModuleList([torch.nn.Conv2d(4, 21, 1)])
    made.model = torch.nn.Sequential(first, head)
    made.yaml, made.names, made.hyp, made.stride = {"nc": 2}, ["a", "b"], {"lr0": 0.01}, torch.tensor([8.0])
    return settle(made, start).half()


def yolov7_case(book):
    """Whole modules of classes that are not installed, with tensors outside their state dict."""
    names = (("models.yolo", "Model"), ("models.common", "Conv"), ("models.yolo", "Detect"))
    classes = [foreign(module, name, torch.nn.Module) for module, name in names]
    model, ema = yolov7_model(classes, 0), yolov7_model(classes, 100)
    file = "yolov7.pt"
    book.save(file, "YOLOv7 during training: `model` and `ema` are modules of foreign classes", {
        "epoch": 1, "best_fitness": numpy.array([0.25]), "training_results": "0/1 0.1 0.2\n", "model": model,
        "ema": ema, "updates": 9, "optimizer": adam_state([(4, 3, 3, 3)]), "wandb_id": None,
    })
    assert "scratch" not in str(model.state_dict().keys()) and "model.1.anchors" in model.state_dict()
    book.expect("YOLOv7's module gives its state dict", file, model.state_dict())
    book.expect("YOLOv7's averaged module gives the averages", file, ema.state_dict(), "yolov7.ema.safetensors",
                ["--ema", "only"])


# --- embeddings and hypernetworks ---------------------------------------------------------------------------------


def embedding_cases(book):
    """Textual inversion as the paper's code, a web UI and diffusers write it."""
    original = torch.nn.ParameterDict({"*": torch.nn.Parameter(normal(2, 6))})
    book.save("embedding_original.pt", "the paper's textual inversion: tokens are tensors, the embedding is in a "
              "ParameterDict", {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": original})
    book.expect("the paper's textual inversion gives `*` alone", "embedding_original.pt", original.state_dict())
    plain_case(book, "embedding_webui.pt", "a web UI's textual inversion", {
        "string_to_token": {"*": 265}, "string_to_param": {"*": torch.nn.Parameter(normal(2, 6))},
        "name": "my-style", "step": 1499, "sd_checkpoint": "fe4efff1e1", "sd_checkpoint_name": "model",
        "sd_checkpoint_hash": "fe4efff1e1"}, "string_to_param")
    plain_case(book, "learned_embeds.bin", "diffusers' textual inversion is a flat dict",
               {"<cat-toy>": torch.nn.Parameter(normal(6)).detach().cpu()})


def hypernetwork_layers(size, names):
    """Make one layer's state dict with the given names of its linear modules."""
    module = torch.nn.Module()
    if names == "linear":
        module.linear = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
    else:
        module.linear1, module.linear2 = torch.nn.Linear(3, 6), torch.nn.Linear(6, 3)
    return settle(module, size).state_dict()


def hypernetwork_cases(book):
    """A web UI's hypernetworks, old and new, and the optimizer's state beside them."""
    extras = {"step": 900, "name": "style", "layer_structure": [1, 2, 1], "activation_func": "linear",
              "is_layer_norm": False, "weight_initialization": "Normal", "sd_checkpoint": "fe4efff1e1",
              "sd_checkpoint_name": "model", "activate_output": True, "use_dropout": False,
              "dropout_structure": None, "last_layer_dropout": False, "optional_info": None}
    for file, names, more in (("hypernetwork_new.pt", "linear", extras),
                              ("hypernetwork_old.pt", "linear1", {"step": 900, "name": "style"})):
        pairs = {size: (hypernetwork_layers(size, names), hypernetwork_layers(size + 1, names)) for size in (768, 320)}
        plain_case(book, file, f"a web UI's hypernetwork with modules called {names}…", {**more, **pairs})
    file = "hypernetwork.pt.optim"
    book.save(file, "the optimizer's state that a web UI saves beside a hypernetwork", {
        "optimizer_name": "AdamW", "hash": "0f1e2d3c", "optimizer_state_dict": adam_state([(3, 6)], torch.optim.AdamW)})
    book.fail("training state alone is an error that names its key", file, "selection",
              ["optimizer_state_dict", "--root"])


# --- training loops -----------------------------------------------------------------------------------------------


def loop_state(weights):
    """Give the optimizer, scheduler and scaler states of a plain loop."""
    params = [torch.nn.Parameter(normal(2))]
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(torch.optim.Adam(params), 10)
    return adam_state(shapes_of(weights)), scheduler.state_dict(), torch.amp.GradScaler("cpu").state_dict()


def loop_cases(book):
    """Training loops written by hand, with loose tensors beside the model."""
    weights = small_weights()
    optimizer, scheduler, scaler = loop_state(weights)
    torch.manual_seed(0)
    args = argparse.Namespace(lr=0.1, data="data", workers=4)
    plain_case(book, "loop.pt", "a plain loop: a random state and a best score beside `model`", {
        "epoch": 4, "model": weights, "optimizer": optimizer, "scheduler": scheduler, "scaler": scaler,
        "rng_state": torch.get_rng_state()[:64].clone(), "best_acc": torch.tensor(0.5), "args": args}, "model")
    plain_case(book, "imagenet.pth.tar", "torch's ImageNet example: `module.` names, `best_acc1` is a tensor", {
        "epoch": 5, "arch": "resnet18", "state_dict": {f"module.{name}": value for name, value in weights.items()},
        "best_acc1": torch.tensor(69.5), "optimizer": optimizer, "scheduler": scheduler}, "state_dict")
    plain_case(book, "nanogpt.pt", "nanoGPT: `best_val_loss` is a 0-d tensor beside `model`", {
        "model": {f"_orig_mod.{name}": value for name, value in weights.items()}, "optimizer": optimizer,
        "model_args": {"n_layer": 1, "bias": False}, "iter_num": 2000, "best_val_loss": torch.tensor(1.5),
        "config": {"out_dir": "out", "dtype": "bfloat16"}}, "model")


def torchvision_cases(book):
    """torchvision's reference scripts, with averages of parameters and buffers."""
    model = network()
    ema = torch.optim.swa_utils.AveragedModel(
        model, avg_fn=torch.optim.swa_utils.get_ema_avg_fn(0.5), use_buffers=True)
    settle(ema.module, 50)
    optimizer, scheduler, scaler = loop_state(model.state_dict())
    file = "torchvision.pth"
    book.save(file, "torchvision's reference scripts: `model`, `model_ema` with `n_averaged` and `module.` names", {
        "model": model.state_dict(), "optimizer": optimizer, "lr_scheduler": scheduler,
        "args": argparse.Namespace(model="resnet18", lr=0.1), "epoch": 3, "model_ema": ema.state_dict(),
        "scaler": scaler})
    book.expect("torchvision's training checkpoint gives its model", file, model.state_dict())
    book.expect("torchvision's averages under the model's names", file, ema.module.state_dict(),
                "torchvision.ema.safetensors", ["--ema", "only"])


# --- known layouts of other projects --------------------------------------------------------------------------------


def mmengine_cases(book):
    """MMEngine's runner, without and with its EMAHook."""
    buffer = foreign("mmengine.logging.history_buffer", "HistoryBuffer")
    model, averaged = network(), settle(network(), 60)
    log = with_state(buffer, _log_history=numpy.array([0.5, 0.25]), _count_history=numpy.array([1, 1]), max_length=10)
    checkpoint = {
        "meta": {"epoch": 1, "iter": 20, "cfg": "model = dict()\n", "mmengine_version": "0.10.4",
                 "dataset_meta": {"classes": ("a", "b"), "palette": [(1, 2, 3)]}},
        "state_dict": model.state_dict(), "optimizer": adam_state(shapes_of(model.state_dict())[:2]),
        "param_schedulers": [{"last_step": 20, "_global_step": 21}],
        "message_hub": {"log_scalars": OrderedDict(loss=log), "runtime_info": OrderedDict(iter=20),
                        "resumed_keys": OrderedDict(loss=True)},
    }
    plain_case(book, "mmengine.pth", "MMEngine's runner: log histories are objects with numpy arrays", checkpoint,
               "state_dict")
    raw = {"steps": torch.tensor(20), **{f"module.{name}": value for name, value in model.state_dict().items()}}
    plain_case(book, "mmengine_ema.pth", "MMEngine's EMAHook: `state_dict` holds the averages, `ema_state_dict` the "
               "raw weights", {**checkpoint, "state_dict": averaged.state_dict(), "ema_state_dict": raw}, "state_dict")


def fairseq_cases(book):
    """fairseq, with meters that hold numbers and with meters that hold tensors."""
    weights = small_weights()
    config = omegaconf.OmegaConf.create({"model": {"_name": "wav2vec2", "layers": 1}, "common": {"fp16": True}})
    for file, value in (("fairseq.pt", 2.5), ("fairseq_meters.pt", torch.tensor(2.5))):
        meter = {"val": value, "sum": value, "count": 3, "round": 3}
        about = "numbers" if isinstance(value, float) else "tensors"
        plain_case(book, file, f"fairseq with {about} in its meters", {
            "args": argparse.Namespace(arch="wav2vec2", task="audio"), "cfg": config, "model": weights,
            "criterion": None, "optimizer_history": [{"optimizer_name": "FP16Optimizer", "num_updates": 400}],
            "task_state": {}, "extra_state": {
                "train_iterator": {"epoch": 2, "shuffle": True}, "val_loss": 2.5, "best": 2.5,
                "metrics": OrderedDict(train=[(0, "loss", "AverageMeter", meter)]), "previous_training_time": 12.5},
            "last_optimizer_state": adam_state(shapes_of(weights))}, "model")


def speech_cases(book):
    """Speech and voice projects."""
    weights = small_weights()
    halves = {name: value.half() for name, value in weights.items()}
    plain_case(book, "whisper.pt", "Whisper: dims and model_state_dict",
               {"dims": {"n_mels": 80, "n_vocab": 51865, "n_text_layer": 4}, "model_state_dict": weights},
               "model_state_dict")
    plain_case(book, "rvc.pth", "RVC: `weight` beside config, info, sr and f0", {
        "weight": halves, "config": [1025, 32, 192, [[1, 3, 5]], 40000], "info": "200epoch", "sr": "40k", "f0": 1,
        "version": "v2"}, "weight")
    plain_case(book, "sovits_G_0.pth", "so-vits: model, iteration, optimizer and learning rate", {
        "model": weights, "iteration": 0, "optimizer": adam_state(shapes_of(weights), torch.optim.AdamW),
        "learning_rate": 0.0001}, "model")
    plain_case(book, "demucs.th", "Demucs: a class and its arguments beside `state`", {
        "klass": foreign("demucs.htdemucs", "HTDemucs", torch.nn.Module), "args": (),
        "kwargs": {"sources": ["drums", "vocals"], "segment": fractions.Fraction(39, 5)}, "state": halves,
        "training_args": {"batch_size": 32}}, "state")


def vision_cases(book):
    """MAE, DINO, Swin and nnU-Net."""
    weights, others = small_weights(), small_weights(10)
    optimizer, _, scaler = loop_state(weights)
    node = foreign("yacs.config", "CfgNode", dict)
    config = with_state(node, __immutable__=True, __deprecated_keys__=set(), __new_allowed__=False)
    config["MODEL"] = {"TYPE": "swin"}
    plain_case(book, "mae.pth", "MAE: model, optimizer, scaler and a Namespace", {
        "model": weights, "optimizer": optimizer, "epoch": 799, "scaler": scaler,
        "args": argparse.Namespace(mask_ratio=0.75)}, "model")
    plain_case(book, "swin.pth", "Swin: a yacs config beside the model", {
        "model": weights, "optimizer": optimizer, "lr_scheduler": {"base_values": [0.1]}, "max_accuracy": 81.5,
        "scaler": scaler, "epoch": 299, "config": config}, "model")
    file = "dino.pth"
    book.save(file, "DINO: student, teacher and the loss's centre", {
        "student": {f"module.backbone.{name}": value for name, value in weights.items()},
        "teacher": {f"backbone.{name}": value for name, value in others.items()}, "optimizer": optimizer, "epoch": 100,
        "args": argparse.Namespace(arch="vit_small"), "dino_loss": OrderedDict(center=normal(1, 4)),
        "fp16_scaler": scaler})
    loaded = book.load(file)
    trees = {key: loaded[key] for key in ("student", "teacher", "dino_loss")}
    book.expect("DINO's trees stay apart", file, flatten(trees))
    book.expect("DINO's teacher is a root", file, loaded["teacher"], "dino.teacher.safetensors", ["--root", "teacher"])
    plain_case(book, "nnunet.pth", "nnU-Net: `network_weights` beside numpy scalars", {
        "network_weights": weights, "optimizer_state": optimizer, "grad_scaler_state": scaler, "current_epoch": 2,
        "logging": {"mean_fg_dice": [numpy.float64(0.5)], "train_losses": [numpy.float32(0.25)], "lrs": [0.01]},
        "_best_ema": numpy.float64(0.75), "init_args": {"fold": 0, "plans": {"dataset_name": "D1"}},
        "trainer_name": "nnUNetTrainer", "inference_allowed_mirroring_axes": (0, 1)}, "network_weights")


def generator_cases(book):
    """Generative models: StyleGAN2, BasicSR's training state, k-diffusion and lucidrains' loops."""
    weights, others, averaged = small_weights(), small_weights(10), small_weights(20)
    optimizer, _, scaler = loop_state(weights)
    file = "stylegan2_train.pt"
    book.save(file, "StyleGAN2 and face restoration in training: g, d, g_ema", {
        "g": weights, "d": others, "g_ema": averaged, "g_optim": optimizer, "d_optim": optimizer,
        "args": argparse.Namespace(size=256), "ada_aug_p": 0.0})
    book.expect("generator and discriminator stay apart", file, flatten({"g": weights, "d": others}))
    book.expect("the averaged generator is a root", file, averaged, "stylegan2_train.g_ema.safetensors",
                ["--root", "g_ema"])
    plain_case(book, "stylegan2.pt", "StyleGAN2 for inference: g_ema and latent_avg, neither of which may be lost",
               {"g_ema": averaged, "latent_avg": normal(6)})
    book.save("basicsr.state", "BasicSR's training state, without the model",
              {"epoch": 1, "iter": 5000, "optimizers": [optimizer], "schedulers": [{"last_epoch": 5000}]})
    book.fail("BasicSR's training state is an error that names its key", "basicsr.state", "selection",
              ["optimizers", "--root"])
    torch.manual_seed(0)
    file = "k_diffusion.pth"
    book.save(file, "k-diffusion: model, model_ema and the state of a random generator", {
        "config": {"model": {"type": "image_v1"}}, "model": weights, "model_ema": averaged, "opt": optimizer,
        "sched": {"inv_gamma": 20000.0, "last_epoch": 9, "_last_lr": [0.0005]}, "ema_sched": {"last_epoch": 9},
        "epoch": 1, "step": 10, "gns_stats": {"beta": 0.9998, "ema_sq_norm": 0.5}, "ema_stats": {"loss": 0.25},
        "demo_gen": torch.Generator().manual_seed(0).get_state()[:64].clone(), "elapsed": 12.5})
    book.expect("k-diffusion gives its model", file, weights)
    book.expect("k-diffusion's averages on request", file, averaged, "k_diffusion.ema.safetensors", ["--ema", "only"])
    ema_pytorch_cases(book, optimizer, scaler)


def ema_pytorch_cases(book, optimizer, scaler):
    """A loop with the real ema-pytorch, whose state holds the raw model too."""
    model = network()
    ema = EMA(model, beta=0.5, update_after_step=0, update_every=1)
    ema.update()
    settle(model)
    ema.update()
    settle(ema.ema_model, 80)
    file = "ema_pytorch.pt"
    book.save(file, "a loop with ema-pytorch: `ema` holds ema_model, online_model, initted and step", {
        "step": 1000, "model": model.state_dict(), "opt": optimizer, "ema": ema.state_dict(), "scaler": scaler,
        "version": "2.2.5"})
    names = ema.state_dict().keys()
    assert {"initted", "step", "ema_model.0.weight", "online_model.0.weight"} <= set(names), names
    book.expect("a loop with ema-pytorch gives its model", file, model.state_dict())
    book.expect("ema-pytorch's averages under the model's names", file, ema.ema_model.state_dict(),
                "ema_pytorch.ema.safetensors", ["--ema", "only"])


# --- putting it together --------------------------------------------------------------------------------------


README = """# Checkpoints of frameworks

Everything here is written by `scripts/fixtures_frameworks.py`; edit that, not these files.

    python3.11 -m venv venv
    venv/bin/pip install {packages}
    venv/bin/python scripts/fixtures_frameworks.py

Made with Python {python} on {machine}. Nothing is downloaded; all models are tiny and have settled values.

**Saved by the real framework:** `lightning*`, `timm*`, the transformers, Trainer, peft and diffusers files,
`ultralytics_best.pt`. The modules, averages and optimizer states in the other `ultralytics*` files, `ema_pytorch.pt`
and `torchvision.pth` are real objects too. The rest has the layout that the projects' code is known to write, saved by
torch.

**Expected outputs** are the tensors of the framework's own `state_dict()`, or those that `torch.load` gives at the path
named in `docs/state-dict.md`, written by safetensors.

Running the script twice gives the same bytes. It starts itself with `PYTHONHASHSEED=0`, which settles the order of
sets. Weights after a training step and optimizer states may differ in the last bit on another processor.

Besides this page there are {count} files, {size} bytes in all.

| file | content |
|---|---|
{lines}
"""


def write_readme(book):
    """Describe where the files come from and what each is for."""
    files = [path for path in FOLDER.iterdir() if path.is_file()]
    packages = [f"{name}=={version}" for name, version in PINNED.items()]
    rows = [" ".join(packages[i:i + 4]) for i in range(0, len(packages), 4)]
    text = README.format(
        packages=" \\\n        ".join(rows), python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}", count=len(files), lines=table_of_files(book),
        size=sum(path.stat().st_size for path in files),
    )
    (FOLDER / "README.md").write_text(text, encoding="utf-8")


def main():
    """Write the whole folder."""
    check_versions(PINNED)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    empty_folder(FOLDER)
    book = Book(FOLDER)
    os.chdir(WORK)
    for make in (lightning_cases, timm_cases, transformers_cases, trainer_cases, peft_case, diffusers_cases,
                 ultralytics_cases, yolov7_case, embedding_cases, hypernetwork_cases, loop_cases, torchvision_cases,
                 mmengine_cases, fairseq_cases, speech_cases, vision_cases, generator_cases):
        torch.manual_seed(0)
        make(book)
    os.chdir(FOLDER)
    shutil.rmtree(WORK)
    write_manifest(book)
    write_readme(book)
    for path in FOLDER.iterdir():
        path.chmod(0o644)


if __name__ == "__main__":
    main()
