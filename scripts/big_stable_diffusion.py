"""Stable Diffusion 1.5 as latent-diffusion saves it: the names and shapes of its tensors, from its configuration."""

import math

# configs/stable-diffusion/v1-inference.yaml of latent-diffusion; the autoencoder and CLIP as it loads them.
MULTIPLIERS = (1, 2, 4, 4)
UNET_WIDTH, UNET_BLOCKS, UNET_LEVELS_WITH_ATTENTION = 320, 2, (0, 1, 2)
VAE_WIDTH, VAE_BLOCKS = 128, 2
CLIP_WIDTH, CLIP_LAYERS, CLIP_WORDS, CLIP_LENGTH = 768, 12, 49408, 77
LATENT, COLOURS, STEPS = 4, 3, 1000

UNET, VAE = "model.diffusion_model.", "first_stage_model."
CLIP = "cond_stage_model.transformer.text_model."
SCHEDULE = (
    "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_variance",
    "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2",
)
POSITIONS = f"{CLIP}embeddings.position_ids"
INTEGERS = {POSITIONS: "i64", "model_ema.num_updates": "i32"}

# What the published file has: tensors and elements below each prefix, position_ids left out.
PUBLISHED = {UNET: (686, 859_520_964), VAE: (248, 83_653_863), CLIP: (196, 123_060_480)}
STABLE_DIFFUSION_ELEMENTS = 2 * 859_520_964 + 83_653_863 + 123_060_480


class Layers(dict):
    """Shapes by name, added a layer at a time."""

    def linear(self, name, inputs, outputs, bias=True):
        """Add a linear layer."""
        self[f"{name}.weight"] = outputs, inputs
        if bias:
            self[f"{name}.bias"] = (outputs,)

    def norm(self, name, channels):
        """Add a normalisation."""
        self[f"{name}.weight"] = self[f"{name}.bias"] = (channels,)

    def conv(self, name, inputs, outputs, kernel):
        """Add a convolution."""
        self[f"{name}.weight"] = outputs, inputs, kernel, kernel
        self[f"{name}.bias"] = (outputs,)

    def add(self, prefix, others):
        """Add layers below a prefix."""
        self.update((prefix + name, shape) for name, shape in others.items())


# --- the U-Net --------------------------------------------------------------------------------------------


def unet(width, context):
    """Give the U-Net, whose blocks are numbered through."""
    made, embedding = Layers(), width * 4
    made.linear("time_embed.0", width, embedding)
    made.linear("time_embed.2", embedding, embedding)
    made.conv("input_blocks.0.0", LATENT, width, 3)
    skips, channels = [width], width
    for level, multiplier in enumerate(MULTIPLIERS):
        for _ in range(UNET_BLOCKS):
            name = f"input_blocks.{len(skips)}"
            made.add(f"{name}.0.", unet_residual(channels, width * multiplier, embedding))
            channels = width * multiplier
            if level in UNET_LEVELS_WITH_ATTENTION:
                made.add(f"{name}.1.", unet_attention(channels, context))
            skips.append(channels)
        if level + 1 < len(MULTIPLIERS):
            made.conv(f"input_blocks.{len(skips)}.0.op", channels, channels, 3)
            skips.append(channels)
    made.add("middle_block.0.", unet_residual(channels, channels, embedding))
    made.add("middle_block.1.", unet_attention(channels, context))
    made.add("middle_block.2.", unet_residual(channels, channels, embedding))
    add_unet_outputs(made, width, context, skips)
    made.norm("out.0", width)
    made.conv("out.2", width, LATENT, 3)
    return made


def add_unet_outputs(made, width, context, skips):
    """Add the way up, whose blocks take in the channels of those on the way down, last first."""
    channels, number = skips[-1], 0
    for level, multiplier in reversed(list(enumerate(MULTIPLIERS))):
        for block in range(UNET_BLOCKS + 1):
            name = f"output_blocks.{number}"
            made.add(f"{name}.0.", unet_residual(channels + skips.pop(), width * multiplier, width * 4))
            channels = width * multiplier
            attention = level in UNET_LEVELS_WITH_ATTENTION
            if attention:
                made.add(f"{name}.1.", unet_attention(channels, context))
            if level and block == UNET_BLOCKS:
                made.conv(f"{name}.{1 + attention}.conv", channels, channels, 3)
            number += 1


def unet_residual(inputs, outputs, embedding):
    """Give a residual block."""
    made = Layers()
    made.norm("in_layers.0", inputs)
    made.conv("in_layers.2", inputs, outputs, 3)
    made.linear("emb_layers.1", embedding, outputs)
    made.norm("out_layers.0", outputs)
    made.conv("out_layers.3", outputs, outputs, 3)
    if inputs != outputs:
        made.conv("skip_connection", inputs, outputs, 1)
    return made


def unet_attention(channels, context):
    """Give a spatial transformer of one block."""
    made, block = Layers(), "transformer_blocks.0"
    made.norm("norm", channels)
    made.conv("proj_in", channels, channels, 1)
    for name, keys in ("attn1", channels), ("attn2", context):
        made.linear(f"{block}.{name}.to_q", channels, channels, bias=False)
        made.linear(f"{block}.{name}.to_k", keys, channels, bias=False)
        made.linear(f"{block}.{name}.to_v", keys, channels, bias=False)
        made.linear(f"{block}.{name}.to_out.0", channels, channels)
        if name == "attn1":
            made.linear(f"{block}.ff.net.0.proj", channels, channels * 8)
            made.linear(f"{block}.ff.net.2", channels * 4, channels)
    for number in 1, 2, 3:
        made.norm(f"{block}.norm{number}", channels)
    made.conv("proj_out", channels, channels, 1)
    return made


# --- the autoencoder --------------------------------------------------------------------------------------


def vae(width):
    """Give the autoencoder."""
    made, top = Layers(), width * MULTIPLIERS[-1]
    made.conv("encoder.conv_in", COLOURS, width, 3)
    channels = width
    for level, multiplier in enumerate(MULTIPLIERS):
        last = level + 1 == len(MULTIPLIERS)
        resample = None if last else "downsample"
        channels = add_vae_level(made, f"encoder.down.{level}", channels, width * multiplier, VAE_BLOCKS, resample)
    add_vae_ends(made, "encoder", top, top, LATENT * 2)
    made.conv("decoder.conv_in", LATENT, top, 3)
    for level, multiplier in reversed(list(enumerate(MULTIPLIERS))):
        resample = "upsample" if level else None
        channels = add_vae_level(made, f"decoder.up.{level}", channels, width * multiplier, VAE_BLOCKS + 1, resample)
    add_vae_ends(made, "decoder", top, width, COLOURS)
    made.conv("quant_conv", LATENT * 2, LATENT * 2, 1)
    made.conv("post_quant_conv", LATENT, LATENT, 1)
    return made


def add_vae_level(made, name, inputs, outputs, blocks, resample):
    """Add the blocks of one resolution; give their channels."""
    for block in range(blocks):
        made.add(f"{name}.block.{block}.", vae_residual(inputs, outputs))
        inputs = outputs
    if resample:
        made.conv(f"{name}.{resample}.conv", outputs, outputs, 3)
    return outputs


def add_vae_ends(made, name, middle, last, outputs):
    """Add the middle of the encoder or decoder, and its last layers."""
    made.add(f"{name}.mid.block_1.", vae_residual(middle, middle))
    made.norm(f"{name}.mid.attn_1.norm", middle)
    for part in "q", "k", "v", "proj_out":
        made.conv(f"{name}.mid.attn_1.{part}", middle, middle, 1)
    made.add(f"{name}.mid.block_2.", vae_residual(middle, middle))
    made.norm(f"{name}.norm_out", last)
    made.conv(f"{name}.conv_out", last, outputs, 3)


def vae_residual(inputs, outputs):
    """Give a residual block."""
    made = Layers()
    made.norm("norm1", inputs)
    made.conv("conv1", inputs, outputs, 3)
    made.norm("norm2", outputs)
    made.conv("conv2", outputs, outputs, 3)
    if inputs != outputs:
        made.conv("nin_shortcut", inputs, outputs, 1)
    return made


# --- the text encoder -------------------------------------------------------------------------------------


def clip(width, words):
    """Give the text encoder, without position_ids."""
    made = Layers()
    made["embeddings.token_embedding.weight"] = words, width
    made["embeddings.position_embedding.weight"] = CLIP_LENGTH, width
    for layer in range(CLIP_LAYERS):
        name = f"encoder.layers.{layer}"
        for part in "k_proj", "v_proj", "q_proj", "out_proj":
            made.linear(f"{name}.self_attn.{part}", width, width)
        made.norm(f"{name}.layer_norm1", width)
        made.linear(f"{name}.mlp.fc1", width, width * 4)
        made.linear(f"{name}.mlp.fc2", width * 4, width)
        made.norm(f"{name}.layer_norm2", width)
    made.norm("final_layer_norm", width)
    return made


# --- all of it --------------------------------------------------------------------------------------------


def stable_diffusion(scale=1):
    """Give the shapes of all tensors by name, in the order of the file, all widths times the scale."""
    def scaled(size):
        return max(1, round(size * scale))

    model = unet(scaled(UNET_WIDTH), scaled(CLIP_WIDTH))
    made = Layers(dict.fromkeys(SCHEDULE, (STEPS,)))
    made.add(UNET, model)
    made["model_ema.decay"] = made["model_ema.num_updates"] = ()
    made.add("model_ema.", {f"diffusion_model{name}".replace(".", ""): shape for name, shape in model.items()})
    made.add(VAE, vae(scaled(VAE_WIDTH)))
    made[POSITIONS] = 1, CLIP_LENGTH
    made.add(CLIP, clip(scaled(CLIP_WIDTH), scaled(CLIP_WORDS)))
    check(made, whole=scale == 1)
    return made


def check(made, whole):
    """Compare the tensors below each prefix with the published file, and their elements if the model is whole."""
    for prefix, (tensors, elements) in PUBLISHED.items():
        shapes = [shape for name, shape in made.items() if name.startswith(prefix) and name != POSITIONS]
        assert len(shapes) == tensors, (prefix, len(shapes))
        assert not whole or sum(map(math.prod, shapes)) == elements, (prefix, sum(map(math.prod, shapes)))
