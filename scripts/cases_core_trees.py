"""The part of make_fixtures.py about checkpoints that hold more than a state dict, and about averaged weights."""

import argparse
import fnmatch
import pathlib
import types
from collections import OrderedDict

import torch

from fixture_book import adam_state, cast, flatten, network, normal, plain_case, small_weights, with_state
from fixture_networks import foreign


# --- which sub-tree is the state dict -------------------------------------------------------------------


def wrapper_cases(book):
    """Checkpoints that wrap their state dict in the usual ways."""
    weights, others = small_weights(), small_weights(10)
    simple = [
        ("wrap_state_dict.pt", "`state_dict` is unwrapped", {"state_dict": weights, "epoch": 3}, ["state_dict"]),
        ("wrap_net.pt", "`net` is unwrapped", {"net": weights}, ["net"]),
        ("wrap_twice.pt", "`model.state_dict` is unwrapped twice", {"model": {"state_dict": weights}},
         ["model", "state_dict"]),
        ("textual_inversion.pt", "a textual inversion gives `*`",
         {"string_to_param": {"*": normal(2, 8)}, "string_to_token": {"*": 265}, "step": 1, "name": "x"},
         ["string_to_param"]),
        ("nested_encoder.pt", "a lone nested mapping keeps its dotted names",
         {"encoder": {"layer": {"weight": normal(2, 2), "bias": normal(2)}}}, []),
        ("flat_with_step.pt", "tensors named like training state are not lost from a flat dict",
         {**weights, "step": torch.tensor(5), "epoch": torch.tensor(2.0)}, []),
        ("two_models.pt", "two sub-trees stay dotted", {"unet": weights, "text_encoder": others, "epoch": 1}, []),
        ("hypernetwork.pt", "int keys and lists become decimal parts of names", hypernetwork(), []),
        ("list.pt", "a list gives its positions as names", [normal(2), normal(2, 2), torch.tensor(3)], []),
        ("bare_tensor.pt", "a bare tensor is called `tensor`", normal(2, 3), []),
        ("params_ema_alone.pt", "averaged weights alone are the weights", {"params_ema": weights}, ["params_ema"]),
    ]
    for file, name, value, path in simple:
        plain_case(book, file, f"wrapper rule: {name}", value, *path, name=name)


def hypernetwork():
    """Make a hypernetwork as web UIs save it: int keys, each with two state dicts in a list."""
    def pair(size):
        return [{"linear.weight": normal(2, 3, seed=size + i), "linear.bias": normal(2, seed=size + i)} for i in (0, 1)]
    return {768: pair(768), 1280: pair(1280), "step": 900, "name": "style", "layer_structure": [1, 2, 1],
            "activation_func": "linear", "optional_info": None}


def training_cases(book):
    """Training checkpoints with optimizer state."""
    weights = small_weights()
    shapes = [tensor.shape for tensor in weights.values()]
    book.save("training.pt", "model_state_dict, a real Adam state, an epoch", {
        "model_state_dict": weights, "optimizer_state_dict": adam_state(shapes), "epoch": 3, "loss": 0.25})
    loaded = book.load("training.pt")
    book.expect("`model_state_dict` is unwrapped", "training.pt", flatten(loaded["model_state_dict"]))
    for path, value in (("optimizer_state_dict", loaded["optimizer_state_dict"]),
                        ("optimizer_state_dict.state.1", loaded["optimizer_state_dict"]["state"][1]),
                        ("model_state_dict", loaded["model_state_dict"])):
        output = "training.safetensors" if path == "model_state_dict" else f"training.{path}.safetensors"
        book.expect(f"--root {path} chooses that sub-tree", "training.pt", flatten(value), output, ["--root", path])
    book.expect("--all gives every tensor its full path", "training.pt", flatten(loaded), "training.all.safetensors",
                ["--all"])
    book.fail("a --root that does not exist is named", "training.pt", "selection", ["no_such"], ["--root", "no_such"])
    book.fail("globs that leave nothing are an error", "training.pt", "selection", ["no tensor", "left"],
              ["--include", "no_such.*"])
    book.expect("--include and --exclude choose by name", "training.pt",
                {"layer.bias": loaded["model_state_dict"]["layer.bias"]}, "training.bias.safetensors",
                ["--include", "layer.*", "--exclude", "*.weight"])


def twin_cases(book):
    """Checkpoints that hold the averaged weights in a tree of their own."""
    weights, averaged = small_weights(), small_weights(10)
    shapes = [tensor.shape for tensor in weights.values()]
    with_buffer = {**weights, "bn.running_mean": normal(3, seed=30)}
    book.save("twin_ema.pt", "model, ema (without the model's buffer) and a real Adam state",
              {"model": with_buffer, "ema": averaged, "optimizer": adam_state(shapes), "epoch": 7})
    loaded = book.load("twin_ema.pt")
    book.expect("a twin tree of averages is left out", "twin_ema.pt", loaded["model"])
    book.expect("--ema drop leaves the raw weights", "twin_ema.pt", loaded["model"], args=["--ema", "drop"])
    book.expect("--ema only takes the averages and the model's buffers", "twin_ema.pt",
                {**loaded["model"], **loaded["ema"]}, "twin_ema.ema.safetensors", ["--ema", "only"])
    book.save("params_ema.pt", "params and params_ema", {"params": weights, "params_ema": averaged})
    loaded = book.load("params_ema.pt")
    book.expect("`params` wins over `params_ema`", "params_ema.pt", loaded["params"])
    book.expect("--ema only takes `params_ema`", "params_ema.pt", loaded["params_ema"], "params_ema.ema.safetensors",
                ["--ema", "only"])


# --- foreign classes, Lightning, Stable Diffusion -------------------------------------------------------


def foreign_classes():
    """Make the foreign classes that Lightning checkpoints are known to hold."""
    return types.SimpleNamespace(
        checkpoint=foreign("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),
        attributes=foreign("pytorch_lightning.utilities.parsing", "AttributeDict", dict),
        config=foreign("omegaconf.dictconfig", "DictConfig"),
        metadata=foreign("omegaconf.base", "ContainerMetadata"),
        node=foreign("omegaconf.nodes", "AnyNode"),
        own=foreign("my_project.config", "TrainConfig"),
    )


def lightning_cases(book, classes):
    """A checkpoint as Lightning writes it, full of foreign classes."""
    node = with_state(classes.node, _metadata=with_state(classes.metadata, key="lr"), _val=0.001)
    config = with_state(classes.config, _metadata=with_state(classes.metadata, key=None), _content={"lr": node})
    hyper = classes.attributes(lr=0.001, path=pathlib.PosixPath("runs/1"),
                               namespace=argparse.Namespace(seed=7, tags=["a"]))
    hyper.update({"config": config, classes.own: "a class as a key", "own": with_state(classes.own, depth=2)})
    monitor = "ModelCheckpoint{'monitor': 'val/loss', 'mode': 'min', 'every_n_train_steps': 0}"
    module = network()
    shapes = [param.shape for param in module.parameters()]
    book.save("lightning.ckpt", "a Lightning checkpoint with callbacks, loops, optimizer states and foreign classes", {
        "epoch": 4, "global_step": 1000, "pytorch-lightning_version": "2.1.0",
        "state_dict": OrderedDict((f"model.{key}", value) for key, value in module.state_dict().items()),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"current": {"completed": 4}}}},
        "callbacks": {monitor: {"best_model_score": torch.tensor(0.125),
                                "best_model_path": pathlib.PosixPath("a/b.ckpt"),
                                "callback": with_state(classes.checkpoint, monitor="val/loss")}},
        "optimizer_states": [adam_state(shapes)],
        "lr_schedulers": [{"base_lrs": [0.001], "last_epoch": 4, "_last_lr": [0.0005]}],
        "hparams_name": "kwargs", "hyper_parameters": hyper,
    })
    book.expect("a Lightning checkpoint gives its state dict", "lightning.ckpt",
                book.load("lightning.ckpt")["state_dict"])


def unet_shapes():
    """Give a few of the U-Net's parameters with their real names and tiny shapes."""
    block, attention = "input_blocks.1.0.", "input_blocks.1.1.transformer_blocks.0."
    return {
        "time_embed.0.weight": (8, 2), "time_embed.0.bias": (8,), "time_embed.2.weight": (8, 8),
        "input_blocks.0.0.weight": (2, 4, 3, 3), "input_blocks.0.0.bias": (2,),
        block + "in_layers.0.weight": (2,), block + "in_layers.2.weight": (2, 2, 3, 3),
        block + "emb_layers.1.weight": (2, 8),
        block + "out_layers.3.bias": (2,), "input_blocks.1.1.proj_in.weight": (2, 2, 1, 1),
        attention + "attn1.to_q.weight": (2, 2), attention + "attn1.to_out.0.bias": (2,),
        attention + "attn2.to_k.weight": (2, 6), attention + "ff.net.0.proj.weight": (16, 2),
        attention + "norm1.weight": (2,),
        "input_blocks.3.0.op.weight": (2, 2, 3, 3), "middle_block.0.in_layers.0.weight": (2,),
        "middle_block.1.transformer_blocks.0.attn2.to_v.weight": (2, 6),
        "output_blocks.0.0.skip_connection.weight": (2, 4, 1, 1),
        "output_blocks.2.1.conv.weight": (2, 2, 3, 3), "out.0.weight": (2,), "out.2.weight": (4, 2, 3, 3),
        "out.2.bias": (4,),
    }


def stable_diffusion_state():
    """Give a state dict with the parts and names of Stable Diffusion 1.x."""
    state = OrderedDict()
    for seed, name in enumerate(["betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod",
                                 "sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod",
                                 "posterior_variance"]):
        state[name] = normal(10, seed=seed).abs()
    for seed, (name, shape) in enumerate(unet_shapes().items()):
        state[f"model.diffusion_model.{name}"] = normal(*shape, seed=100 + seed)
    state["model_ema.decay"] = torch.tensor(0.9999)
    state["model_ema.num_updates"] = torch.tensor(470000, dtype=torch.int32)
    for seed, (name, shape) in enumerate(unet_shapes().items()):
        state["model_ema." + f"diffusion_model.{name}".replace(".", "")] = normal(*shape, seed=200 + seed)
    first = {"encoder.conv_in.weight": (2, 3, 3, 3), "encoder.conv_in.bias": (2,),
             "encoder.mid.attn_1.q.weight": (2, 2, 1, 1),
             "decoder.conv_in.weight": (2, 4, 3, 3), "decoder.up.0.block.0.norm1.weight": (2,),
             "decoder.conv_out.bias": (3,),
             "quant_conv.weight": (8, 8, 1, 1), "post_quant_conv.bias": (4,)}
    text = {"embeddings.token_embedding.weight": (12, 6), "embeddings.position_embedding.weight": (7, 6),
            "encoder.layers.0.self_attn.k_proj.weight": (6, 6), "encoder.layers.0.mlp.fc1.bias": (24,),
            "final_layer_norm.weight": (6,)}
    for seed, (name, shape) in enumerate(first.items()):
        state[f"first_stage_model.{name}"] = normal(*shape, seed=300 + seed)
    state["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77).reshape(1, 77)
    for seed, (name, shape) in enumerate(text.items()):
        state[f"cond_stage_model.transformer.text_model.{name}"] = normal(*shape, seed=400 + seed)
    return state


def without_ema(state):
    """Give the entries that are not averages of latent-diffusion's kind."""
    return {name: tensor for name, tensor in state.items() if not name.startswith("model_ema.")}


def only_ema(state, wrapped):
    """Give the model's entries with each parameter of the wrapped module replaced by its average."""
    chosen = {}
    for name, tensor in without_ema(state).items():
        inner = name.removeprefix(wrapped).replace(".", "")
        chosen[name] = state.get(f"model_ema.{inner}", tensor) if name.startswith(wrapped) else tensor
    return chosen


def matching(state, glob):
    """Give the entries whose name matches a glob."""
    return {name: tensor for name, tensor in state.items() if fnmatch.fnmatchcase(name, glob)}


def stable_diffusion_cases(book, classes):
    """A small file with the structure of a Stable Diffusion 1.x training checkpoint."""
    book.save("sd_mini.ckpt", "Stable Diffusion 1.x in small: EMA copies, VAE, text encoder, schedule, AdamW state", {
        "epoch": 6, "global_step": 470000, "pytorch-lightning_version": "1.4.2", "state_dict": stable_diffusion_state(),
        "callbacks": {classes.checkpoint: {"monitor": "val/loss_simple_ema", "best_model_score": torch.tensor(0.5),
                                           "best_model_path": "checkpoints/epoch=000006.ckpt", "current_score": None}},
        "optimizer_states": [adam_state([(4, 2), (4,)], torch.optim.AdamW)],
        "lr_schedulers": [{"last_epoch": 470000, "lr_lambdas": [None]}],
    })
    state = book.load("sd_mini.ckpt")["state_dict"]
    raw = without_ema(state)
    assert all(f"model_ema.{('diffusion_model.' + name).replace('.', '')}" in state for name in unet_shapes())
    file, vae = "sd_mini.ckpt", matching(state, "first_stage_model.*")
    kept = {name: tensor for name, tensor in state.items() if name not in vae}
    book.expect("Stable Diffusion gives its state dict, averages included", file, state)
    book.expect("Stable Diffusion pruned and halved", file, cast(raw, "fp16"), "sd_mini.fp16.pruned.safetensors",
                ["--fp16", "--prune-ema"])
    book.expect("Stable Diffusion with averages for weights", file, only_ema(state, "model."),
                "sd_mini.ema.safetensors",
                ["--ema", "only"])
    book.expect("Stable Diffusion as bf16", file, cast(state, "bf16"), "sd_mini.bf16.safetensors", ["--bf16"])
    book.expect("Stable Diffusion without its VAE", file, kept, "sd_mini.no_vae.safetensors",
                ["--exclude", "first_stage_model.*"])
    book.expect("Stable Diffusion's U-Net alone", file, matching(raw, "model.*"), "sd_mini.unet.safetensors",
                ["--include", "model.*", "--ema", "drop"])


def autoencoder_cases(book):
    """An autoencoder whose averages are named after the whole model."""
    shapes = {"encoder.conv_in.weight": (2, 3, 3, 3), "encoder.conv_in.bias": (2,),
              "decoder.conv_out.weight": (3, 2, 3, 3),
              "quant_conv.bias": (4,), "loss.logvar": ()}
    state = OrderedDict((name, normal(*shape, seed=i)) for i, (name, shape) in enumerate(shapes.items()))
    state["loss.discriminator.main.3.running_mean"] = normal(4, seed=20)
    state["loss.discriminator.main.3.num_batches_tracked"] = torch.tensor(9)
    state["model_ema.decay"] = torch.tensor(0.9999)
    state["model_ema.num_updates"] = torch.tensor(11, dtype=torch.int32)
    for i, (name, shape) in enumerate(shapes.items()):
        state["model_ema." + name.replace(".", "")] = normal(*shape, seed=50 + i)
    book.save("vae_ema.ckpt", "a latent-diffusion autoencoder whose averages cover the whole model",
              {"state_dict": state, "epoch": 1})
    state = book.load("vae_ema.ckpt")["state_dict"]
    book.expect("averages of the whole model are dropped", "vae_ema.ckpt", without_ema(state),
                "vae_ema.raw.safetensors",
                ["--ema", "drop"])
    book.expect("averages of the whole model replace its weights", "vae_ema.ckpt", only_ema(state, ""),
                "vae_ema.ema.safetensors", ["--ema", "only"])
