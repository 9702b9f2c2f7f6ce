"""Producers: models of diffusers, and averages by its EMAModel."""

import diffusers
import torch
from diffusers.training_utils import EMAModel

from interop_case import Case, Difference, compare, compare_outputs, half, run, snapshot
from interop_consumers import load

WEIGHTS = "diffusion_pytorch_model"
BLOCKS = {"block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1}
CROSS = {**BLOCKS, "in_channels": 4, "cross_attention_dim": 8, "attention_head_dim": 2,
         "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D")}
LATENT = torch.linspace(-1, 1, 4 * 8 * 8).reshape(1, 4, 8, 8).sin()
TEXT = torch.linspace(-1, 1, 3 * 8).reshape(1, 3, 8)
IMAGE = torch.linspace(-1, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)
STEP = {"sample": LATENT, "timestep": torch.tensor([3]), "encoder_hidden_states": TEXT}

MODELS = {
    "UNet2DConditionModel": (diffusers.UNet2DConditionModel, {
        **CROSS, "sample_size": 8, "out_channels": 4, "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}, STEP),
    "UNet2DModel": (diffusers.UNet2DModel, {
        **BLOCKS, "sample_size": 8, "in_channels": 4, "out_channels": 4, "attention_head_dim": 2,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")},
        {"sample": LATENT, "timestep": torch.tensor([3])}),
    "AutoencoderKL": (diffusers.AutoencoderKL, {
        **BLOCKS, "latent_channels": 4, "sample_size": 16, "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2}, {"sample": IMAGE}),
    "VQModel": (diffusers.VQModel, {
        "block_out_channels": (8,), "norm_num_groups": 4, "latent_channels": 4, "num_vq_embeddings": 16}, {"sample": IMAGE}),
    "ControlNetModel": (diffusers.ControlNetModel, {
        **CROSS, "conditioning_embedding_out_channels": (4, 8)}, {**STEP, "controlnet_cond": IMAGE}),
    "DiTTransformer2DModel": (diffusers.DiTTransformer2DModel, {
        "num_attention_heads": 2, "attention_head_dim": 4, "in_channels": 4, "num_layers": 1, "sample_size": 8,
        "patch_size": 2, "norm_num_groups": 4, "num_embeds_ada_norm": 10},
        {"hidden_states": LATENT, "timestep": torch.tensor([3]), "class_labels": torch.tensor([1])}),
}


def make(name):
    """Make a model whose weights are random everywhere, also where training starts with zeros."""
    kind, config, inputs = MODELS[name]
    model = kind(**config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval(), inputs


def pretrained(model, inputs, **options):
    """Load a folder with from_pretrained; the state dict and the outputs have to be equal."""
    state, outputs = snapshot(model.state_dict()), run(model, **inputs)

    def check(folder):
        model.save_config(folder)
        loaded, info = type(model).from_pretrained(folder, output_loading_info=True, **options)
        if any(info.values()):
            raise Difference(f"from_pretrained: {info}")
        return compare(loaded.state_dict(), state) + compare_outputs(run(loaded, **inputs), outputs)
    return check


def saved(name):
    """save_pretrained without safetensors, and torch.save of the model."""
    def produce(folder):
        model, inputs = make(name)
        model.save_pretrained(folder / "saved", safe_serialization=False)
        yield Case(f"diffusers {name}", folder / "saved" / f"{WEIGHTS}.bin", snapshot(model.state_dict()),
                   {"from_pretrained": pretrained(model, inputs)}, output=f"{WEIGHTS}.safetensors")
        torch.save(model, folder / "model.pt")
        yield Case(f"diffusers {name}, torch.save(model)", folder / "model.pt", snapshot(model.state_dict()))
    return produce


def sharded(folder):
    """save_pretrained in shards."""
    model, inputs = make("UNet2DConditionModel")
    source, state = folder / "saved", snapshot(model.state_dict())
    model.save_pretrained(source, safe_serialization=False, max_shard_size="30KB")
    assert (source / f"{WEIGHTS}.bin.index.json").is_file()
    loaders = {"from_pretrained": pretrained(model, inputs)}
    yield Case("diffusers UNet2DConditionModel, its shards", source, state, loaders, output="")
    yield Case("the same, --max-shard-size 20KB", source, state, loaders, ("--max-shard-size", "20KB"),
               f"{WEIGHTS}.safetensors")


def halves(folder):
    """A cast to float16, and one that leaves the norms alone."""
    model, inputs = make("AutoencoderKL")
    model.save_pretrained(folder / "saved", safe_serialization=False)
    rounded = type(model).from_config(model.config)
    rounded.load_state_dict(half(model.state_dict()))
    mixed = {name: tensor if "norm" in name else tensor.half() for name, tensor in model.state_dict().items()}
    path = folder / "saved" / f"{WEIGHTS}.bin"
    yield Case("diffusers AutoencoderKL, --fp16", path, half(model.state_dict()),
               {"from_pretrained": pretrained(rounded, inputs, torch_dtype=torch.float32)}, ("--fp16",),
               f"{WEIGHTS}.safetensors")
    yield Case("the same, --keep-dtype '*norm*'", path, mixed, {}, ("--fp16", "--keep-dtype", "*norm*"))


def averages(folder):
    """EMAModel's state, which has a list of averages without names, and the file that its save_pretrained makes."""
    model, inputs = make("UNet2DModel")
    ema = EMAModel(model.parameters(), decay=0.5, model_cls=type(model), model_config=model.config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    ema.step(model.parameters())
    torch.save(ema.state_dict(), folder / "ema.pt")
    shadows = {f"shadow_params.{i}": tensor.clone() for i, tensor in enumerate(ema.shadow_params)}
    averaged = type(model).from_config(model.config)
    ema.copy_to(averaged.parameters())

    def restore(result):
        found = load(result)
        fresh = EMAModel(type(model).from_config(model.config).parameters())
        fresh.load_state_dict({**ema.state_dict(), "shadow_params": [found[name] for name in shadows]})
        restored = type(model).from_config(model.config)
        fresh.copy_to(restored.parameters())
        return (compare(restored.state_dict(), averaged.state_dict())
                + compare_outputs(run(restored, **inputs), run(averaged, **inputs)))
    yield Case("diffusers EMAModel.state_dict()", folder / "ema.pt", shadows, {"EMAModel.load_state_dict": restore})
    torch.save({"model": model.state_dict(), "ema": averaged.state_dict(), "step": 3}, folder / "both.pt")
    yield Case("diffusers UNet2DModel, --ema only", folder / "both.pt", snapshot(averaged.state_dict()),
               {"from_pretrained": pretrained(averaged, inputs)}, ("--ema", "only"), f"{WEIGHTS}.safetensors")


PRODUCERS = [*map(saved, MODELS), sharded, halves, averages]
