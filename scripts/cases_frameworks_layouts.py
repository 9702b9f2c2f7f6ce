"""The part of fixtures_frameworks.py whose checkpoints have the layout that a project's code is known to write."""

import argparse
import fractions
from collections import OrderedDict

import numpy
import omegaconf
import torch
from ema_pytorch import EMA

from fixture_book import adam_state, flatten, network, normal, plain_case, settle_small, small_weights, with_state
from fixture_networks import foreign


# --- YOLOv7 ---------------------------------------------------------------------------------------------


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
    return settle_small(made, start).half()


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


# --- embeddings and hypernetworks -----------------------------------------------------------------------


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
    return settle_small(module, size).state_dict()


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


# --- training loops -------------------------------------------------------------------------------------


def shapes_of(weights):
    """Give the shapes of a state dict's floating tensors."""
    return [tuple(tensor.shape) for tensor in weights.values() if tensor.is_floating_point()]


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
    settle_small(ema.module, 50)
    optimizer, scheduler, scaler = loop_state(model.state_dict())
    file = "torchvision.pth"
    book.save(file, "torchvision's reference scripts: `model`, `model_ema` with `n_averaged` and `module.` names", {
        "model": model.state_dict(), "optimizer": optimizer, "lr_scheduler": scheduler,
        "args": argparse.Namespace(model="resnet18", lr=0.1), "epoch": 3, "model_ema": ema.state_dict(),
        "scaler": scaler})
    book.expect("torchvision's training checkpoint gives its model", file, model.state_dict())
    book.expect("torchvision's averages under the model's names", file, ema.module.state_dict(),
                "torchvision.ema.safetensors", ["--ema", "only"])


def ema_pytorch_cases(book, optimizer, scaler):
    """A loop with the real ema-pytorch, whose state holds the raw model too."""
    model = network()
    ema = EMA(model, beta=0.5, update_after_step=0, update_every=1)
    ema.update()
    settle_small(model)
    ema.update()
    settle_small(ema.ema_model, 80)
    file = "ema_pytorch.pt"
    book.save(file, "a loop with ema-pytorch: `ema` holds ema_model, online_model, initted and step", {
        "step": 1000, "model": model.state_dict(), "opt": optimizer, "ema": ema.state_dict(), "scaler": scaler,
        "version": "2.2.5"})
    names = ema.state_dict().keys()
    assert {"initted", "step", "ema_model.0.weight", "online_model.0.weight"} <= set(names), names
    book.expect("a loop with ema-pytorch gives its model", file, model.state_dict())
    book.expect("ema-pytorch's averages under the model's names", file, ema.ema_model.state_dict(),
                "ema_pytorch.ema.safetensors", ["--ema", "only"])


# --- known layouts of other projects --------------------------------------------------------------------


def mmengine_cases(book):
    """MMEngine's runner, without and with its EMAHook."""
    buffer = foreign("mmengine.logging.history_buffer", "HistoryBuffer")
    model, averaged = network(), settle_small(network(), 60)
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
