"""Producers: models of transformers, whole, sharded and with an adapter of peft."""

import huggingface_hub
import peft
import torch
import transformers as t

from interop_case import Case, Difference, compare, compare_outputs, run, snapshot

SMALL = {"vocab_size": 99, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
         "max_position_embeddings": 32}
GROUPED = {**SMALL, "num_key_value_heads": 1}
TOWER = {key: value for key, value in SMALL.items() if key not in ("vocab_size", "max_position_embeddings")}
IMAGE = {**TOWER, "image_size": 16, "patch_size": 4}
TOKENS = {"input_ids": torch.arange(8)[None] * 7 % 99}
PIXELS = {"pixel_values": torch.linspace(-1, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)}
PAIR = {**TOKENS, "decoder_input_ids": TOKENS["input_ids"][:, :4]}
SOUND = {"input_values": torch.linspace(-1, 1, 800)[None].sin()}
SPEECH = {"input_features": torch.linspace(-1, 1, 8 * 32).reshape(1, 8, 32), "decoder_input_ids": PAIR["decoder_input_ids"]}

MODELS = {
    "BERT": (t.BertForMaskedLM, lambda: t.BertConfig(**SMALL), TOKENS),
    "RoBERTa": (t.RobertaForSequenceClassification, lambda: t.RobertaConfig(**SMALL), TOKENS),
    "DistilBERT": (t.DistilBertModel, lambda: t.DistilBertConfig(vocab_size=99, dim=16, n_layers=2, n_heads=2,
                                                                 hidden_dim=24, max_position_embeddings=32), TOKENS),
    "ALBERT": (t.AlbertForMaskedLM, lambda: t.AlbertConfig(**SMALL, embedding_size=8), TOKENS),
    "DeBERTa-v2": (t.DebertaV2Model, lambda: t.DebertaV2Config(**SMALL), TOKENS),
    "GPT-2": (t.GPT2LMHeadModel, lambda: t.GPT2Config(vocab_size=99, n_positions=32, n_embd=16, n_layer=2, n_head=2), TOKENS),
    "Llama": (t.LlamaForCausalLM, lambda: t.LlamaConfig(**GROUPED), TOKENS),
    "Mistral": (t.MistralForCausalLM, lambda: t.MistralConfig(**GROUPED), TOKENS),
    "Qwen2, tied": (t.Qwen2ForCausalLM, lambda: t.Qwen2Config(**GROUPED, tie_word_embeddings=True), TOKENS),
    "Gemma": (t.GemmaForCausalLM, lambda: t.GemmaConfig(**GROUPED, head_dim=8), TOKENS),
    "GPT-NeoX": (t.GPTNeoXForCausalLM, lambda: t.GPTNeoXConfig(**SMALL), TOKENS),
    "Mamba": (t.MambaForCausalLM, lambda: t.MambaConfig(vocab_size=99, hidden_size=16, num_hidden_layers=2, state_size=4), TOKENS),
    "T5": (t.T5ForConditionalGeneration, lambda: t.T5Config(vocab_size=99, d_model=16, d_kv=8, d_ff=24, num_layers=2,
                                                            num_heads=2, decoder_start_token_id=0), PAIR),
    "BART": (t.BartForConditionalGeneration, lambda: t.BartConfig(
        vocab_size=99, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=32), PAIR),
    "Whisper": (t.WhisperForConditionalGeneration, lambda: t.WhisperConfig(
        vocab_size=99, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=24, decoder_ffn_dim=24, num_mel_bins=8, max_source_positions=16, max_target_positions=16,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1), SPEECH),
    "wav2vec 2.0": (t.Wav2Vec2Model, lambda: t.Wav2Vec2Config(
        **TOWER, conv_dim=(8, 8), conv_kernel=(8, 4), conv_stride=(4, 2), num_feat_extract_layers=2,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2), SOUND),
    "CLIP": (t.CLIPModel, lambda: t.CLIPConfig(text_config=SMALL, vision_config=IMAGE, projection_dim=8), {**TOKENS, **PIXELS}),
    "ViT": (t.ViTForImageClassification, lambda: t.ViTConfig(**IMAGE), PIXELS),
    "Swin": (t.SwinModel, lambda: t.SwinConfig(image_size=16, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[1, 2],
                                               window_size=4), PIXELS),
    "ConvNeXt": (t.ConvNextModel, lambda: t.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2), PIXELS),
    "ResNet": (t.ResNetModel, lambda: t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]), PIXELS),
}


def make(name):
    """Make a model with random weights, and the input that it is tried with."""
    kind, config, inputs = MODELS[name]
    return kind(config()).eval(), inputs


def pretrained(model, inputs, **options):
    """Load a folder with from_pretrained; nothing may be missing, the state dict and the outputs have to be equal."""
    state, outputs = snapshot(model.state_dict()), run(model, **inputs)

    def load(folder):
        model.config.save_pretrained(folder)
        loaded, info = type(model).from_pretrained(folder, output_loading_info=True, **options)
        if any(info.values()):
            raise Difference(f"from_pretrained: {info}")
        return compare(loaded.state_dict(), state) + compare_outputs(run(loaded, **inputs), outputs)
    return load


def whole(name, legacy):
    """A state dict as training scripts save it, in one container, and the whole model in the other."""
    def produce(folder):
        model, inputs = make(name)
        path = folder / "pytorch_model.bin"
        torch.save(model.state_dict(), path, _use_new_zipfile_serialization=not legacy)
        kind = "legacy stream" if legacy else "zip"
        yield Case(f"transformers {name}, {kind}", path, snapshot(model.state_dict()),
                   {"from_pretrained": pretrained(model, inputs)})
        if any(map(torch.nn.utils.parametrize.is_parametrized, model.modules())):
            return  # torch refuses to save it whole
        torch.save(model, path, _use_new_zipfile_serialization=legacy)
        kind = "zip" if legacy else "legacy stream"
        yield Case(f"transformers {name}, torch.save(model), {kind}", path, snapshot(model.state_dict()))
    return produce


def sharded(folder):
    """Shards and an index, converted to as many, to one file, and to smaller ones."""
    model, inputs = make("Llama")
    state = snapshot(model.state_dict())
    source = folder / "shards"
    source.mkdir()
    huggingface_hub.save_torch_state_dict(model.state_dict(), source, filename_pattern="pytorch_model{suffix}.bin",
                                          safe_serialization=False, max_shard_size="8KB")
    assert (source / "pytorch_model.bin.index.json").is_file()
    loaders = {"from_pretrained": pretrained(model, inputs)}
    yield Case("transformers Llama, shards by huggingface_hub", source, state, loaders, output="")
    yield Case("the same, into one file", source, state, loaders)
    yield Case("the same, --max-shard-size 4KB", source, state, loaders, ("--max-shard-size", "4KB"))


def split(folder):
    """One file, cut into shards and an index."""
    model, inputs = make("BERT")
    path = folder / "pytorch_model.bin"
    torch.save(model.state_dict(), path)
    yield Case("transformers BERT, --max-shard-size 5KB", path, snapshot(model.state_dict()),
               {"from_pretrained": pretrained(model, inputs)}, ("--max-shard-size", "5KB"))


def halves(folder):
    """A cast: the result is what torch's own cast of the state dict gives."""
    model, inputs = make("Qwen2, tied")
    path = folder / "model.bin"
    torch.save(model.state_dict(), path)
    for option, dtype in (("--fp16", torch.float16), ("--bf16", torch.bfloat16)):
        # Not cast.to(dtype): that also casts the frequencies of the rotary embedding, a buffer that is not in the state
        # dict, which from_pretrained(dtype=...) leaves in float32.
        cast = type(model)(model.config)
        cast.load_state_dict({name: tensor.to(dtype) for name, tensor in model.state_dict().items()}, assign=True)
        yield Case(f"transformers Qwen2, {option}", path, snapshot(cast.state_dict()),
                   {"from_pretrained": pretrained(cast, inputs, dtype=dtype)}, (option,))


def prefixed(folder):
    """What a wrapped and compiled model's training script saves, beside optimizer and scheduler."""
    model, inputs = make("GPT-2")
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = t.get_cosine_schedule_with_warmup(optimizer, 1, 10)
    run_training_step(model, optimizer, scheduler)
    wrapped = torch.nn.DataParallel(torch.compile(model))
    path = folder / "checkpoint.pt"
    torch.save({"model": wrapped.state_dict(), "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict(),
                "config": model.config, "epoch": 1, "rng_state": torch.get_rng_state()}, path)
    yield Case("transformers GPT-2, DataParallel, compiled, AdamW", path, snapshot(model.state_dict()),
               {"from_pretrained": pretrained(model, inputs)}, ("--strip-prefix", "module._orig_mod."))


def run_training_step(model, optimizer, scheduler):
    """Train for one step, so that the optimizer has a state."""
    model.train()
    model(**TOKENS, labels=TOKENS["input_ids"]).loss.backward()
    optimizer.step()
    scheduler.step()
    model.eval()


def adapter(folder):
    """A LoRA adapter by peft."""
    base, inputs = make("Llama")
    state = snapshot(base.state_dict())
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    model = peft.get_peft_model(base, config).eval()
    model.save_pretrained(folder / "adapter", safe_serialization=False)
    expected, outputs = snapshot(peft.get_peft_model_state_dict(model)), run(model, **inputs)

    def load(result):
        config.save_pretrained(result)
        fresh = t.LlamaForCausalLM(base.config)
        fresh.load_state_dict(state)
        loaded = peft.PeftModel.from_pretrained(fresh, result)
        return compare(peft.get_peft_model_state_dict(loaded), expected) + compare_outputs(run(loaded, **inputs), outputs)
    yield Case("peft LoRA on Llama", folder / "adapter" / "adapter_model.bin", expected,
               {"PeftModel.from_pretrained": load}, output="adapter_model.safetensors")


PRODUCERS = [
    *(whole(name, legacy=i % 3 == 2) for i, name in enumerate(MODELS)),
    sharded, split, halves, prefixed, adapter,
]
