"""Producers: modules that keep their weights in unusual ways, and programs that save them."""

import accelerate
import diffusers
import huggingface_hub
import lightning
import peft
import safetensors.torch
import torch
import torch.nn.utils.prune
import transformers as t
from torch import nn
from torchvision import tv_tensors

from interop_case import Case, compare, compare_outputs, run, snapshot
from interop_consumers import load
from interop_transformers import make, pretrained

ROWS = torch.linspace(-1, 1, 3 * 4).reshape(3, 4).sin()


class Collections(nn.Module):
    """Parameters in lists and dicts, buffers that are None, and attributes on parameters."""

    def __init__(self):
        super().__init__()
        self.items = nn.ParameterList([torch.randn(2), torch.randn(3)])
        self.table = nn.ParameterDict({"b": nn.Parameter(torch.randn(2)), "a": nn.Parameter(torch.randn(1))})
        self.parts = nn.ModuleDict({"z": nn.Linear(4, 4), "y": nn.ModuleList([nn.Linear(4, 4), nn.Identity()])})
        self.register_buffer("nothing", None)
        self.register_buffer("gone", torch.ones(2), persistent=False)
        self.register_parameter("absent", None)
        self.counted = nn.Buffer(torch.tensor([1, 2]))
        self.parts["z"].weight.sequence_parallel = True
        self.plain = torch.ones(2)


class Hub(nn.Module, huggingface_hub.PyTorchModelHubMixin):
    """A module that huggingface_hub loads."""

    def __init__(self, width=4):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width))


def pruned():
    """A module with masks by torch.nn.utils.prune."""
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    nn.utils.prune.random_unstructured(model[0], "weight", 0.5)
    nn.utils.prune.ln_structured(model[1], "weight", 0.5, n=2, dim=0)
    return model


def lazy():
    """Lazy modules after their first use."""
    model = nn.Sequential(nn.LazyLinear(5), nn.LazyBatchNorm1d())
    model(ROWS)
    return model


def several_dtypes():
    """A module whose parts have dtypes of their own."""
    model = nn.Sequential(nn.Linear(4, 4).half(), nn.Linear(4, 4).bfloat16(), nn.Linear(4, 4).double())
    model.append(nn.Linear(2, 2, dtype=torch.complex64))
    return model


KINDS = {
    "lists and dicts of parameters": Collections, "pruned": pruned, "lazy": lazy, "several dtypes": several_dtypes,
    "weight_norm by hook": lambda: nn.utils.weight_norm(nn.Linear(4, 3)),
    "spectral_norm by hook": lambda: nn.utils.spectral_norm(nn.Linear(4, 3)),
    "Transformer": lambda: nn.Transformer(8, 2, 1, 1, 8, batch_first=True),
    "MultiheadAttention, other widths": lambda: nn.MultiheadAttention(8, 2, kdim=4, vdim=6, add_bias_kv=True),
    "LSTM with projections": lambda: nn.LSTM(4, 6, 2, proj_size=3, bidirectional=True),
    "DataParallel": lambda: nn.DataParallel(nn.Linear(4, 3)),
    "torch.compile": lambda: torch.compile(nn.Sequential(nn.Linear(4, 3), nn.ReLU())),
    "torch.fx": lambda: torch.fx.symbolic_trace(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))),
    "EmbeddingBag and Bilinear": lambda: nn.ModuleList([nn.EmbeddingBag(5, 3), nn.Bilinear(2, 3, 4)]),
}
PARAMETRIZED = {
    "weight_norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)),
    "spectral_norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)),
    "orthogonal": lambda: nn.utils.parametrizations.orthogonal(nn.Linear(4, 3)),
}


def strict(model, make_fresh):
    """Load into a new module with load_state_dict."""
    state = snapshot(model.state_dict())

    def check(folder):
        fresh = make_fresh()
        fresh.load_state_dict(load(folder))
        return compare(fresh.state_dict(), state)
    return {"load_state_dict": check}


def whole_modules(folder):
    """torch.save of whole modules, and of their state dicts."""
    for name, kind in {**KINDS, **PARAMETRIZED}.items():
        model, path = kind(), folder / "model.pt"
        if name not in PARAMETRIZED:  # torch refuses to save those whole
            torch.save({"model": model, "epoch": 1}, path)
            # torch saves a GraphModule as Python source, which runs when it is loaded.
            options = ("--allow-dangerous",) if name == "torch.fx" else ()
            yield Case(f"torch.save(model): {name}", path, snapshot(model.state_dict()), options=options)
        torch.save(model.state_dict(keep_vars=True), path)
        yield Case(f"state dict with parameters: {name}", path, snapshot(model.state_dict()), strict(model, kind))


def subclasses(folder):
    """Tensors of classes of their own."""
    image = tv_tensors.Image(torch.randint(0, 255, (3, 4, 4), dtype=torch.uint8))
    boxes = tv_tensors.BoundingBoxes(torch.tensor([[0, 1, 2, 3]]), format="XYXY", canvas_size=(4, 4))
    parameter = nn.Parameter(ROWS.clone())
    parameter.tag = {"name": "p"}
    values = {"image": image, "boxes": boxes, "parameter": parameter, "buffer": nn.Buffer(ROWS.t()),
              "conjugate": torch.randn(3, dtype=torch.complex64).conj(), "imaginary": torch.randn(3, dtype=torch.complex64).conj().imag}
    torch.save(values, folder / "values.pt")
    expected = {name: torch.clone(tensor.as_subclass(torch.Tensor).detach()).resolve_conj().resolve_neg()
                for name, tensor in values.items()}
    yield Case("torchvision's and torch's tensor classes", folder / "values.pt", expected)


def tied(folder):
    """Tied weights written once, as safetensors.torch.save_model writes them."""
    for name in ("GPT-2", "T5", "Qwen2, tied"):
        model, inputs = make(name)
        torch.save(model.state_dict(), folder / "model.bin")
        state = snapshot(model.state_dict())
        safetensors.torch.save_model(model, str(folder / "reference.safetensors"))
        with safetensors.safe_open(folder / "reference.safetensors", "pt") as reference:
            kept = set(reference.keys())

        def check(result, kind=type(model), config=model.config, state=state):
            fresh = kind(config)
            safetensors.torch.load_model(fresh, str(result / "model.safetensors"))
            return compare(fresh.state_dict(), state)
        yield Case(f"transformers {name}, --ties alias", folder / "model.bin",
                   {key: tensor for key, tensor in state.items() if key in kept},
                   {"safetensors load_model": check, "from_pretrained": pretrained(model, inputs)}, ("--ties", "alias"))


def hub(folder):
    """Loaded by huggingface_hub's mixin and by its load_torch_model, from one file and from shards."""
    model = Hub(width=6).eval()
    state = snapshot(model.state_dict())
    torch.save({"state_dict": model.state_dict()}, folder / "model.ckpt")

    def mixin(result):
        (result / "config.json").write_text('{"width": 6}')
        return compare(Hub.from_pretrained(result).state_dict(), state)

    def plain(result):
        fresh = Hub(width=6)
        huggingface_hub.load_torch_model(fresh, result, strict=True)
        return compare(fresh.state_dict(), state)
    yield Case("huggingface_hub mixin", folder / "model.ckpt", state,
               {"mixin from_pretrained": mixin, "hub load_torch_model": plain})
    yield Case("the same, --max-shard-size 100B", folder / "model.ckpt", state, {"hub load_torch_model": plain},
               ("--max-shard-size", "100B"))


def accelerated(folder):
    """accelerate's save_model in shards, and its save_state."""
    def fresh_model():
        return nn.Sequential(nn.Linear(4, 32), nn.LayerNorm(32), nn.Linear(32, 2))
    helper = accelerate.Accelerator(cpu=True)
    model, optimizer = helper.prepare(fresh_model(), torch.optim.AdamW([nn.Parameter(torch.ones(2))]))
    state = snapshot(model.state_dict())

    def check(result):
        fresh = fresh_model()
        accelerate.load_checkpoint_in_model(fresh, str(result), strict=True)
        return compare(fresh.state_dict(), state)
    helper.save_model(model, folder / "shards", max_shard_size="1KB", safe_serialization=False)
    yield Case("accelerate save_model, shards", folder / "shards", state, {"accelerate load_checkpoint": check}, output="")
    helper.save_state(str(folder / "state"), safe_serialization=False)
    yield Case("accelerate save_state", folder / "state" / "pytorch_model.bin", state, {"accelerate load_checkpoint": check})


def fabric(folder):
    """Lightning Fabric's save."""
    runner = lightning.Fabric(accelerator="cpu", devices=1)
    model = nn.Linear(4, 3)
    wrapped, optimizer = runner.setup(model, torch.optim.Adam(model.parameters()))
    wrapped(ROWS).sum().backward()
    optimizer.step()
    runner.save(folder / "fabric.ckpt", {"model": wrapped, "optimizer": optimizer, "iteration": 3})
    yield Case("Lightning Fabric", folder / "fabric.ckpt", snapshot(model.state_dict()),
               strict(model, lambda: nn.Linear(4, 3)))


def adapters(folder):
    """Other adapters of peft, loaded by peft."""
    kinds = {
        "DoRA, modules to save": peft.LoraConfig(r=2, use_dora=True, target_modules=["q_proj"], modules_to_save=["lm_head"]),
        "IA3": peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
        "prompt tuning": peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"),
        "LoHa": peft.LoHaConfig(r=2, target_modules=["q_proj"], init_weights=False),
        "VeRA": peft.VeraConfig(r=2, target_modules=["q_proj"]),
    }
    for name, config in kinds.items():
        base, inputs = make("Llama")
        state, settings = snapshot(base.state_dict()), base.config
        model = peft.get_peft_model(base, config)
        path = folder / name.replace(" ", "_")
        model.save_pretrained(path, safe_serialization=False)
        expected, outputs = snapshot(peft.get_peft_model_state_dict(model)), run(model, **inputs)

        def check(result, config=config, state=state, settings=settings, expected=expected, outputs=outputs):
            config.save_pretrained(result)
            fresh = t.LlamaForCausalLM(settings)
            fresh.load_state_dict(state)
            loaded = peft.PeftModel.from_pretrained(fresh, result)
            return (compare(peft.get_peft_model_state_dict(loaded), expected)
                    + compare_outputs(run(loaded, **inputs), outputs))
        yield Case(f"peft {name}", path / "adapter_model.bin", expected, {"PeftModel.from_pretrained": check},
                   output="adapter_model.safetensors")


def diffusers_lora(folder):
    """LoRA weights of a pipeline, saved and loaded by diffusers."""
    from interop_stable_diffusion import pipeline
    pipe = pipeline()
    base = snapshot(pipe.unet.state_dict())
    pipe.unet.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    layers = snapshot(peft.get_peft_model_state_dict(pipe.unet))
    diffusers.StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers, safe_serialization=False)

    def check(result):
        fresh = pipeline()
        fresh.unet.load_state_dict(base)
        fresh.load_lora_weights(str(result), weight_name="pytorch_lora_weights.safetensors")
        [adapter] = fresh.unet.peft_config
        return compare(peft.get_peft_model_state_dict(fresh.unet, adapter_name=adapter), layers)
    yield Case("diffusers LoRA weights", folder / "pytorch_lora_weights.bin",
               {f"unet.{name}": tensor for name, tensor in layers.items()}, {"load_lora_weights": check},
               output="pytorch_lora_weights.safetensors")


def objects(folder):
    """Whole objects of frameworks that hold a model, as scripts save them beside the optimizer itself."""
    base, _ = make("Llama")
    optimizer = torch.optim.AdamW(base.parameters())
    averaged = torch.optim.swa_utils.AveragedModel(nn.Linear(4, 3), use_buffers=True)
    wrapped = peft.get_peft_model(make("GPT-2")[0], peft.LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True))
    module = lightning.LightningModule()
    module.net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    for name, model, beside in (
        ("model and optimizer", base, {"optimizer": optimizer, "epoch": 3}), ("AveragedModel", averaged, {}),
        ("PeftModel", wrapped, {}), ("LightningModule", module, {"trainer": None}),
    ):
        torch.save({"model": model, **beside} if beside else model, folder / "model.pt")
        yield Case(f"objects: {name}", folder / "model.pt", snapshot(model.state_dict()))


def compiled(folder):
    """Models of transformers as TorchScript and as exported programs."""
    for name in ("BERT", "GPT-2", "ViT", "Llama", "ConvNeXt"):
        model, inputs = make(name)
        model.config.use_cache = False
        traced = torch.jit.trace(model, example_kwarg_inputs=inputs, check_trace=False, strict=False)
        torch.jit.save(traced, folder / "traced.pt", _extra_files={"note.json": "{}"})
        yield Case(f"transformers {name}, torch.jit.trace", folder / "traced.pt", snapshot(traced.state_dict()))
        program = torch.export.export(model, (), inputs, strict=False)
        torch.export.save(program, folder / "program.pt2")
        yield Case(f"transformers {name}, torch.export", folder / "program.pt2", snapshot(program.state_dict))


PRODUCERS = [whole_modules, objects, compiled, subclasses, tied, hub, accelerated, fabric, adapters, diffusers_lora]
