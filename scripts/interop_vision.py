"""Producers: models of timm and torchvision, and what their training scripts save."""

import argparse

import timm
import timm.optim
import timm.utils
import torch
import torchvision.models as tv

from interop_case import Case, compare, compare_outputs, run, snapshot
from interop_consumers import load

PIXELS = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32).sin()
LEGACY = {"_use_new_zipfile_serialization": False}

TIMM = {
    "vit_tiny_patch16_224": {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2},
    "eva02_tiny_patch14_224": {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2},
    "swin_tiny_patch4_window7_224": {"img_size": 32, "window_size": 4, "embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2)},
    "convnext_atto": {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)},
    "resnet10t": {}, "efficientnet_lite0": {}, "mobilenetv3_small_050": {}, "ghostnet_050": {},
}
TORCHVISION = {
    "ResNet": lambda: tv.ResNet(tv.resnet.BasicBlock, [1, 1, 1, 1], num_classes=3),
    "MobileNetV3": lambda: tv.mobilenet_v3_small(width_mult=0.25, num_classes=3),
    "ShuffleNetV2": lambda: tv.shufflenet_v2_x0_5(num_classes=3),
    "SqueezeNet": lambda: tv.squeezenet1_1(num_classes=3),
    "DenseNet": lambda: tv.DenseNet(4, (2, 2), 8, num_classes=3),
    "VisionTransformer": lambda: tv.VisionTransformer(32, 8, 2, 2, 24, 32, num_classes=3),
    "SwinTransformer": lambda: tv.SwinTransformer([4, 4], 8, [1, 1], [1, 2], [4, 4], num_classes=3),
}


def vary(model):
    """Give parameters and statistics values that differ everywhere."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor) * 0.1)
    return model.eval()


def strict(model, make):
    """Load into a new model with load_state_dict; the outputs have to be equal."""
    state, outputs = snapshot(model.state_dict()), run(model, PIXELS)

    def check(folder):
        fresh = make()
        fresh.load_state_dict(load(folder))
        return compare(fresh.state_dict(), state) + compare_outputs(run(fresh, PIXELS), outputs)
    return check


def timm_loader(model, make):
    """Load into a new model with timm's load_checkpoint; the outputs have to be equal."""
    state, outputs = snapshot(model.state_dict()), run(model, PIXELS)

    def check(folder):
        fresh = make()
        timm.models.load_checkpoint(fresh, str(folder / "model.safetensors"))
        return compare(fresh.state_dict(), state) + compare_outputs(run(fresh, PIXELS), outputs)
    return check


def timm_model(name, number):
    """A state dict of a timm model."""
    def make():
        return timm.create_model(name, num_classes=3, **TIMM[name])

    def produce(folder):
        model = vary(make())
        legacy = number % 2 == 1
        torch.save(model.state_dict(), folder / "model.pth", **(LEGACY if legacy else {}))
        yield Case(f"timm {name}, {'legacy stream' if legacy else 'zip'}", folder / "model.pth",
                   snapshot(model.state_dict()), {"timm load_checkpoint": timm_loader(model, make)})
        torch.save(model, folder / "whole.pth", **({} if legacy else LEGACY))
        yield Case(f"timm {name}, torch.save(model)", folder / "whole.pth", snapshot(model.state_dict()))
    return produce


def timm_training(folder):
    """timm's CheckpointSaver with an optimizer, a scaler and averages."""
    def make():
        return timm.create_model("mobilenetv3_small_050", num_classes=3)
    model = make()
    ema = timm.utils.ModelEmaV3(model, decay=0.5)
    optimizer = timm.optim.create_optimizer_v2(model, opt="adamw", lr=0.01)
    model(PIXELS).square().mean().backward()
    optimizer.step()
    ema.update(model)
    args = argparse.Namespace(model="mobilenetv3_small_050", lr=0.01, mean=None, betas=(0.9, 0.99))
    saver = timm.utils.CheckpointSaver(model, optimizer, args, ema, timm.utils.NativeScaler("cpu"),
                                       checkpoint_dir=str(folder), recovery_dir=str(folder))
    saver.save_checkpoint(1, 2.0)
    source, averaged = folder / "checkpoint-1.pth.tar", ema.module
    yield Case("timm CheckpointSaver", source, snapshot(model.state_dict()),
               {"timm load_checkpoint": timm_loader(model, make)})
    yield Case("the same, --ema only", source, snapshot(averaged.state_dict()),
               {"timm load_checkpoint": timm_loader(averaged, make)}, ("--ema", "only"))


def torchvision_model(name, number):
    """A state dict or a whole module of a torchvision model, and what torch compiles of it."""
    def produce(folder):
        make = TORCHVISION[name]
        model = vary(make())
        kind, value, options = [("zip", model.state_dict(), {}), ("legacy stream", model.state_dict(), LEGACY),
                                ("torch.save(model)", model, {})][number % 3]
        torch.save(value, folder / "model.pth", **options)
        yield Case(f"torchvision {name}, {kind}", folder / "model.pth", snapshot(model.state_dict()),
                   {"load_state_dict": strict(model, make)})
        script = torch.jit.script(model)
        torch.jit.save(script, folder / "script.pt")
        yield Case(f"torchvision {name}, torch.jit.script", folder / "script.pt", snapshot(script.state_dict()))
        program = torch.export.export(model, (PIXELS,))
        torch.export.save(program, folder / "program.pt2")
        yield Case(f"torchvision {name}, torch.export", folder / "program.pt2", snapshot(program.state_dict))
    return produce


def torchvision_training(folder):
    """What torchvision's reference script saves: model, averages of it, optimizer, scheduler."""
    make = TORCHVISION["MobileNetV3"]
    model = make()
    averaged = torch.optim.swa_utils.AveragedModel(
        model, avg_fn=lambda old, new, _: old * 0.5 + new * 0.5, use_buffers=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for _ in range(2):
        model(PIXELS).square().mean().backward()
        optimizer.step()
        averaged.update_parameters(model)
    scheduler.step()
    source = folder / "checkpoint.pth"
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "lr_scheduler": scheduler.state_dict(),
                "epoch": 1, "args": argparse.Namespace(lr=0.1), "model_ema": averaged.state_dict()}, source)
    yield Case("torchvision's reference training", source, snapshot(model.state_dict()),
               {"load_state_dict": strict(model, make)})
    yield Case("the same, --ema only", source, snapshot(averaged.module.state_dict()),
               {"load_state_dict": strict(averaged.module, make)}, ("--ema", "only"))


def detector(folder):
    """A detection model, whose parts have lists and frozen statistics."""
    def make():
        return tv.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=2)
    model = vary(make())
    torch.save(model.state_dict(), folder / "model.pth")
    image = [PIXELS[0]]
    state, outputs = snapshot(model.state_dict()), run(model, image)

    def check(result):
        fresh = make()
        fresh.load_state_dict(load(result))
        return compare(fresh.state_dict(), state) + compare_outputs(run(fresh, image), outputs)
    yield Case("torchvision SSDlite", folder / "model.pth", state, {"load_state_dict": check})


PRODUCERS = [
    *(timm_model(name, i) for i, name in enumerate(TIMM)), timm_training,
    *(torchvision_model(name, i) for i, name in enumerate(TORCHVISION)), torchvision_training, detector,
]
