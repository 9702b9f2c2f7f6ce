"""The part of fixtures_frameworks.py whose checkpoints are saved by the real frameworks."""

import argparse
import enum
import os
import pathlib
import sys
import tempfile

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
import ultralytics
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import IterableSimpleNamespace
from ultralytics.utils.torch_utils import strip_optimizer

from fixture_book import adam_state, flatten, network, normal, settle_small, with_state
from fixture_networks import foreign

DATE = "2026-01-02T03:04:05+00:00"


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


# --- Lightning ------------------------------------------------------------------------------------------


def own_values():
    """Give members of an enum and of a class of the user's own, both from the script that trains."""
    mode = enum.Enum("Mode", {"FAST": "fast"}, module="__main__")
    sys.modules["__main__"].Mode = mode
    return mode.FAST, with_state(foreign("__main__", "Settings"), depth=2)


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
    module = settle_small(Regression(config, argparse.Namespace(seed=7, tags=["a"]), pathlib.Path("runs/1"),
                                     *own_values()))
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


# --- timm -----------------------------------------------------------------------------------------------


def timm_cases(book):
    """timm's CheckpointSaver with both kinds of averaging."""
    for file, kind in (("timm_v2.pth.tar", timm.utils.ModelEmaV2), ("timm_v3.pth.tar", timm.utils.ModelEmaV3)):
        model = settle_small(timm.models.convmixer.ConvMixer(4, 1, kernel_size=3, patch_size=2, num_classes=3))
        ema = kind(model, decay=0.75)
        settle_small(model, 200)
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


# --- transformers, peft, diffusers ----------------------------------------------------------------------


def tiny_gpt2():
    """Make a GPT-2 with one block."""
    config = transformers.GPT2Config(vocab_size=11, n_positions=6, n_embd=4, n_layer=1, n_head=2)
    return settle_small(transformers.GPT2LMHeadModel(config))


def transformers_cases(book):
    """State dicts of models with tied embeddings, as pytorch_model.bin holds them."""
    bert = transformers.BertConfig(vocab_size=11, hidden_size=4, num_hidden_layers=1, num_attention_heads=2,
                                   intermediate_size=6, max_position_embeddings=5)
    t5 = transformers.T5Config(vocab_size=11, d_model=4, d_kv=2, d_ff=6, num_layers=1, num_heads=2,
                               decoder_start_token_id=0)
    made = {
        "bert": settle_small(transformers.BertForMaskedLM(bert)), "gpt2": tiny_gpt2(),
        "t5": settle_small(transformers.T5ForConditionalGeneration(t5)),
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
    model = settle_small(peft.get_peft_model(tiny_gpt2(), config))
    model.save_pretrained("adapter", safe_serialization=False)
    adopt(book, "adapter_model.bin", "a LoRA adapter saved by peft", "adapter/adapter_model.bin")
    state = peft.get_peft_model_state_dict(model)
    same(state, book.load("adapter_model.bin"))
    book.expect("a LoRA adapter keeps peft's names", "adapter_model.bin", state)


def diffusers_cases(book):
    """Diffusers models, and averages without names."""
    unet = settle_small(diffusers.UNet2DConditionModel(
        sample_size=4, in_channels=2, out_channels=2, block_out_channels=(4,), layers_per_block=1, norm_num_groups=2,
        cross_attention_dim=3, attention_head_dim=2, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
    ))
    vae = settle_small(diffusers.AutoencoderKL(
        block_out_channels=(4,), norm_num_groups=2, latent_channels=2, sample_size=4))
    for name, model in (("unet", unet), ("vae", vae)):
        file = f"{name}_diffusion_pytorch_model.bin"
        model.save_pretrained(name, safe_serialization=False)
        adopt(book, file, f"a tiny {type(model).__name__} saved by diffusers", f"{name}/diffusion_pytorch_model.bin")
        same(model.state_dict(), book.load(file))
        book.expect(f"diffusers' {name} keeps its names", file, model.state_dict())
    module = network()
    ema = diffusers.training_utils.EMAModel(module.parameters(), decay=0.5)
    settle_small(module)
    ema.step(module.parameters())
    book.save("diffusers_ema.pt", "the state of diffusers' EMAModel: averages in a list, without names",
              ema.state_dict())
    shadows = book.load("diffusers_ema.pt")["shadow_params"]
    book.expect("a lone list keeps its key before the positions", "diffusers_ema.pt",
                {f"shadow_params.{i}": tensor for i, tensor in enumerate(shadows)})


# --- ultralytics ----------------------------------------------------------------------------------------


def tiny_detector(start):
    """Make a real detection model with two convolutions and one head, in half precision."""
    model = DetectionModel({
        "nc": 2, "reg_max": 1, "backbone": [[-1, 1, "Conv", [4, 3, 2]], [-1, 1, "Conv", [8, 3, 2]]],
        "head": [[[1], 1, "Detect", ["nc"]]], "depth_multiple": 1.0, "width_multiple": 1.0,
    }, ch=3, verbose=False)
    model.args = IterableSimpleNamespace(box=7.5, cls=0.5, imgsz=32)
    return settle_small(model, start).half()


def ultralytics_cases(book):
    """A detector during training, with whole modules, and after ultralytics has stripped it."""
    ema = tiny_detector(0)
    args = {"model": "tiny.yaml", "data": "coco8.yaml", "epochs": 3, "imgsz": 32, "task": "detect"}
    checkpoint = {
        "epoch": 2, "best_fitness": numpy.float64(0.5), "stopper": {"best_fitness": 0.5, "best_epoch": 2},
        "model": None, "ema": ema, "updates": 12, "modelopt": None,
        "optimizer": adam_state([tuple(p.shape) for p in ema.parameters()][:4]), "scaler": {}, "train_args": args,
        "train_metrics": {"metrics/mAP50(B)": 0.25, "fitness": 0.5}, "train_results": {"epoch": [1, 2]},
        "date": DATE, "version": ultralytics.__version__, "git": {"root": "None", "branch": None},
        "license": "AGPL-3.0 (https://ultralytics.com/license)", "docs": "https://docs.ultralytics.com",
    }
    book.save("ultralytics_last.pt", "ultralytics during training: `model` is None, `ema` is the whole module",
              checkpoint)
    state = ema.state_dict()
    assert "model.0.conv.weight" in state and state["model.0.conv.weight"].dtype == torch.float16
    book.expect("ultralytics' averaged module keeps its own names", "ultralytics_last.pt", state,
                "ultralytics.safetensors")
    strip_optimizer(book.folder / "ultralytics_last.pt", "best.pt", {"train_args": args})
    adopt(book, "ultralytics_best.pt", "ultralytics after strip_optimizer: `model` is the whole module", "best.pt")
    same(state, book.load("ultralytics_best.pt")["model"].state_dict())
    book.expect("ultralytics' module keeps its own names", "ultralytics_best.pt", state, "ultralytics.safetensors")
    both = {**checkpoint, "model": tiny_detector(100)}
    book.save("ultralytics_both.pt", "older ultralytics during training: `model` and `ema` are whole modules", both)
    book.expect("a module wins over its averages", "ultralytics_both.pt", both["model"].state_dict())
    book.expect("a module's averages on request", "ultralytics_both.pt", state, "ultralytics.safetensors",
                ["--ema", "only"])
