"""The part of fixtures_weights.py about whose averages they are: names that fit several parts, or none."""

import torch

ONLY = ["--ema", "only"]
DROP = ["--ema", "drop"]


def full(value, *shape):
    """Give a tensor of one value."""
    return torch.full(shape or (2, 2), float(value))


def counter():
    """Give the counter of an AveragedModel."""
    return torch.tensor(5)


def inside(book):
    """An AveragedModel among the model's names."""
    state = {"b.weight": full(1), "a.weight": full(2), "ema.n_averaged": counter(), "ema.module.weight": full(9)}
    book.save("owner_letters.pt", "an average at `ema.` and a part called `a`", state)
    book.fail("a letter of the average's name names no part", "owner_letters.pt", "ema", ["a.", "b."], ONLY)

    state = {f"blocks.{i}.weight": full(1, 3, 3) if i else full(1) for i in range(9)}
    state |= {"net.weight": full(2), "net_ema.n_averaged": counter(), "net_ema.module.weight": full(9)}
    book.save("owner_many.pt", "nine other parts with the same names", state)
    kept = {name: tensor for name, tensor in state.items() if not name.startswith("net_ema.")}
    book.expect("the part that the average is called after is found among many", "owner_many.pt",
                {**kept, "net.weight": full(9)}, "owner_many.ema.safetensors", ONLY)

    state = {"net.decay": full(1, 4), "net.weight": full(1), "ema.n_averaged": counter(),
             "ema.module.decay": full(9, 4), "ema.module.weight": full(8)}
    book.save("owner_decay.pt", "a parameter called `decay`", state)
    book.expect("a parameter that is called like a counter has its average", "owner_decay.pt",
                {"net.decay": full(9, 4), "net.weight": full(8)}, "owner_decay.ema.safetensors", ONLY)

    state = {"n_averaged": counter(), "module.a.weight": full(9), "head.weight": full(1)}
    book.save("owner_buffer.pt", "a wrapped model with a buffer called `n_averaged`, beside a head", state)
    book.expect("a buffer called n_averaged beside other names makes no averages", "owner_buffer.pt", state,
                "owner_buffer.safetensors", DROP)

    state = {"net.weight": full(1, 3, 3), "ema.n_averaged": counter(), "ema.module.weight": full(9)}
    book.save("owner_shape.pt", "an average of another shape", state)
    book.fail("an average of another shape is an error", "owner_shape.pt", "ema", ["net.weight", "shape"], ONLY)

    state = {"generator.net.w": full(1), "discriminator.net.w": full(2), "generator.ema.n_averaged": counter(),
             "generator.ema.module.w": full(9)}
    book.save("owner_near.pt", "an average inside the module that it belongs to", state)
    book.expect("an average belongs to what lies in the same module", "owner_near.pt",
                {"generator.net.w": full(9), "discriminator.net.w": full(2)}, "owner_near.ema.safetensors", ONLY)


def beside(book):
    """Trees of averages beside the model."""
    book.save("owner_step.pt", "a parameter called `step`",
              {"model": {"step": full(1, 4), "weight": full(1)}, "ema": {"step": full(9, 4), "weight": full(8)}})
    book.expect("a parameter that is called like a counter has its average in a tree too", "owner_step.pt",
                {"step": full(9, 4), "weight": full(8)}, "owner_step.ema.safetensors", ONLY)

    book.save("owner_mixed.pt", "averages with and without `module.`",
              {"model": {"weight": full(1), "bias": full(1, 2), "scale": full(1, 3)},
               "ema": {"module.weight": full(9), "module.bias": full(8, 2), "scale": full(7, 3)}})
    book.expect("an average without the prefix of the others is used too", "owner_mixed.pt",
                {"weight": full(9), "bias": full(8, 2), "scale": full(7, 3)}, "owner_mixed.ema.safetensors", ONLY)

    names = ("online_model.w", "online_model.b", "target_model.w")
    book.save("owner_online.pt", "a model with a part called `online_model`",
              {"model": {name: full(1) for name in names}, "ema": {name: full(9) for name in names}})
    book.expect("a part called online_model has its averages", "owner_online.pt", {name: full(9) for name in names},
                "owner_online.ema.safetensors", ONLY)

    book.save("owner_counter.pt", "a counter beside averages, and a number of the same name in the model",
              {"model": {"w": full(1), "step": torch.tensor(1)},
               "ema": {"module.w": full(9), "step": torch.tensor(5)}})
    book.expect("a counter of the averages takes no tensor's place", "owner_counter.pt",
                {"w": full(9), "step": torch.tensor(1)}, "owner_counter.ema.safetensors", ONLY)

    few = {"net.w": full(1), "net.b": full(2, 3)}
    more = {f"very_long_extra_{i}": full(5 + i) for i in range(5)}
    book.save("owner_extra.pt", "a tree with more names than the model",
              {"state_dict": few, "ema": {"w": full(9), "b": full(8, 3), **more}})
    book.expect("averages of no tensor of the model do not hide the others", "owner_extra.pt",
                {"net.w": full(9), "net.b": full(8, 3), **{f"net.{name}": tensor for name, tensor in more.items()}},
                "owner_extra.ema.safetensors", ONLY)

    state = {"model.w": full(1), "w": full(2), "model_ema.w": full(9), "model_ema.decay": torch.tensor(0.5),
             "model_ema.num_updates": torch.tensor(3)}
    book.save("owner_ldm.ckpt", "an average that is as well one of `model.w` as of `w`", {"state_dict": state})
    book.fail("an average that fits two tensors is an error", "owner_ldm.ckpt", "ema", ["model_ema.", "model."], ONLY)


def chosen(book):
    """Trees that are chosen by --root, or lie beside one that is."""
    book.save("owner_alike.pt", "two parts of the same names and one tree of averages",
              {"model": {"w": full(1)}, "discriminator": {"w": full(2)}, "ema": {"w": full(9)}})
    book.fail("averages of one of two parts are those of neither", "owner_alike.pt", "ema",
              ["discriminator", "model"], ["--root", "discriminator", *ONLY])

    gan = {"g": {"0.weight": full(1)}, "d": {"0.weight": full(2)}, "g_ema": {"0.weight": full(9)}}
    book.save("owner_gan.pt", "generator, discriminator, and the generator's average", gan)
    book.fail("an average of the generator is none of the discriminator", "owner_gan.pt", "ema", ["g_ema", "d"],
              ["--root", "d", *ONLY])
    book.expect("the generator's average by its name", "owner_gan.pt", {"0.weight": full(9)},
                "owner_gan.g.safetensors", ["--root", "g", *ONLY])

    two = {"g.n_averaged": counter(), "g.module.weight": full(8), "d.n_averaged": counter(),
           "d.module.weight": full(9)}
    book.save("owner_two.pt", "a tree of two AveragedModels", {"model": {"weight": full(1)}, "ema": two})
    book.expect("each average in a chosen tree keeps its name", "owner_two.pt",
                {"g.weight": full(8), "d.weight": full(9)}, "owner_two.ema.safetensors", ["--root", "ema", *ONLY])


OWNERS = (inside, beside, chosen)
