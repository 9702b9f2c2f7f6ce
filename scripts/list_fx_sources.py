#!/usr/bin/env python3
"""Write fixtures/genuine/fx_sources.json: the Python source that torch.save of a torch.fx.GraphModule writes.

    venv/bin/python scripts/list_fx_sources.py

Run it once with each torch (2.15.0, 2.4.1 with torchvision 0.19.1 and timm, 1.13.1); what a version finds replaces
its rows, and a source that another version wrote already is not repeated. Nothing is downloaded.
"""

import io
import json
import operator
import os
import sys
from pathlib import Path

os.environ.update({"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"})
import torch
import torch.fx.experimental.proxy_tensor
import torch.nn.functional as F

FILE = Path(__file__).parent.parent / "fixtures" / "genuine" / "fx_sources.json"
# Longer sources are left out.
MAX_SOURCE = 6_000


class Functional(torch.nn.Module):
    """Functions of torch and of torch.nn.functional."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = torch.nn.Parameter(torch.ones(4, 3, 3, 3)), torch.nn.Parameter(torch.ones(4))

    def forward(self, x, mask=None, scale: float = 0.5):
        y = F.conv2d(x, self.weight, self.bias, stride=(1, 1), padding="same")
        y = F.gelu(F.silu(F.relu(y, inplace=True)), approximate="none")
        y = F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)
        y = F.max_pool2d(F.pad(y, [1, 1, 1, 1], value=float("-inf")), 2)
        y = F.adaptive_avg_pool2d(y, 1) + F.dropout(y, p=0.1, training=self.training)
        y = F.layer_norm(y, [y.shape[-1]], None, None, 1e-05) * scale
        y = torch.where(y > 0, y, torch.zeros_like(y)).masked_fill(y < -1, float("nan"))
        z = torch.cat([y, torch.exp(y)], dim=1)
        z = torch.nn.functional.softmax(z.flatten(1), dim=-1, dtype=torch.float32)
        return {"out": z, "list": [y, (z,)], "sum": torch.sum(z, dim=(0,), keepdim=True)}


class Shapes(torch.nn.Module):
    """Methods, attributes, slices and operators."""

    def forward(self, x: torch.Tensor, index: int = 1):
        batch, length = x.shape[0], x.size(1)
        y = x.view(batch, length, -1).permute(0, 2, 1).contiguous()[:, 1:, ::2]
        y = y[..., None][0, index:, None] // 2 % 3
        positions = torch.arange(0, 4, dtype=torch.long)
        y = y.to(x.dtype).to(torch.device("cpu")) + positions.unsqueeze(0) ** 2
        y += 1
        y = -y @ y.transpose(-2, -1) / 8 ** 0.5
        y = (y >= 0) & ~(y == 3) | (y != 2)
        first, second = y.float().chunk(2, dim=-1)
        return first.reshape([batch, -1]), second.type_as(x), x.T, getattr(x, "ndim"), 1 + 2j * x


class Operators(torch.nn.Module):
    """The operator module, Python's own functions, and those of fft, linalg and special."""

    def forward(self, x):
        y = operator.add(operator.mul(x, 2), operator.getitem(x, (0, slice(None, None, None))))
        y = torch.fft.ifft(torch.fft.fft(y)).real + torch.linalg.norm(x) + torch.special.expit(x)
        q, k, v = torch.unbind(y.unsqueeze(0).expand(3, -1, -1))
        y = torch.einsum("ij,kj->ik", q, k).softmax(-1) @ v
        return torch.stack([y, abs(y)]), torch.full((2, 2), 0.5, dtype=torch.float16), torch.rsqrt(y)


class Nested(torch.nn.Module):
    """Modules below modules, with digits for names, buffers, and setitem in place."""

    def __init__(self):
        super().__init__()
        block = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU())
        self.blocks = torch.nn.ModuleList([torch.nn.ModuleDict({"a-b": block}), torch.nn.Sequential(block)])
        self.register_buffer("table", torch.ones(4))

    def forward(self, x):
        x = self.blocks[1](self.blocks[0]["a-b"](x)) * self.table
        return torch.addmm(x, x, x.t())


class Attention(torch.nn.Module):
    """Attention that is written out, with sizes as numbers."""

    def __init__(self):
        super().__init__()
        self.embed, self.qkv = torch.nn.Embedding(16, 8), torch.nn.Linear(8, 24)
        self.norm, self.out = torch.nn.LayerNorm(8), torch.nn.Linear(8, 8)

    def forward(self, ids):
        x = self.norm(self.embed(ids))
        shape = (x.size(0), x.size(1), 3, 2, 4)
        q, k, v = self.qkv(x).view(shape).permute(2, 0, 3, 1, 4)
        if hasattr(F, "scaled_dot_product_attention"):
            x = F.scaled_dot_product_attention(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=True)
        return self.out(x.transpose(1, 2).flatten(-2))


def optional():
    """Models of torchvision and timm, where they are installed."""
    try:
        import timm
        import torchvision.models as vision
    except ImportError:
        return
    for name in ["alexnet", "resnet18", "squeezenet1_1"]:
        yield f"torchvision {name}", lambda: torch.fx.symbolic_trace(getattr(vision, name)(weights=None))
    yield "timm resnet10t", lambda: torch.fx.symbolic_trace(timm.create_model("resnet10t").eval())
    from torchvision.models import feature_extraction
    from torchvision.ops import StochasticDepth

    yield "torchvision stochastic depth", lambda: torch.fx.symbolic_trace(StochasticDepth(0.1, "row"))
    yield "torchvision features", lambda: feature_extraction.create_feature_extractor(
        vision.resnet18(weights=None), {"layer1": "a", "layer4": "b"})


def quantised():
    """A model that torch.ao.quantization converts."""
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 2))
    example = (torch.ones(1, 3, 8, 8),)
    prepared = prepare_fx(net.eval(), get_default_qconfig_mapping("fbgemm"), example)
    prepared(*example)
    return convert_fx(prepared)


def made():
    trace, decomposed = torch.fx.symbolic_trace, torch.fx.experimental.proxy_tensor.make_fx
    for net in [Functional, Shapes, Operators, Nested, Attention]:
        yield net.__name__.lower(), lambda: trace(net())
    yield "defaults in place", lambda: trace(Functional(), concrete_args={"mask": None})
    yield "no arguments", lambda: trace(type("Constant", (torch.nn.Module,), {"forward": lambda self: torch.ones(2)})())
    yield "many arguments", lambda: trace(type("Many", (torch.nn.Module,), {
        "forward": lambda self, *args, **kwargs: args[0] + kwargs["x"]})())
    yield "make_fx", lambda: decomposed(lambda x: torch.nn.functional.layer_norm(x @ x.t(), [3]).relu().std())(torch.ones(3, 3))
    yield "encoder of torch", lambda: trace(torch.nn.Transformer(8, 2, 1, 1, 8).encoder.layers[0].linear1)
    yield "quantised", lambda: quantised()


def sources(module):
    """What torch.save writes for reduce_graph_module, for the module and those below it."""
    found, reduce = [], torch.fx.GraphModule.__reduce__

    def record(self):
        function, (body, import_block) = reduce(self)
        assert function is torch.fx.graph_module.reduce_graph_module
        found.append((import_block, body["_code"]))
        return function, (body, import_block)

    torch.fx.GraphModule.__reduce__ = record
    try:
        torch.save(module, io.BytesIO())
    finally:
        torch.fx.GraphModule.__reduce__ = reduce
    return found


def main():
    rows = json.loads(FILE.read_text()) if FILE.exists() else []
    version = torch.__version__.split("+")[0]
    rows = [row for row in rows if row["torch"] != version]
    known = {(row["import_block"], row["code"]) for row in rows}
    torch.manual_seed(1)
    for makers in [made(), optional()]:
        for what, make in makers:
            try:
                found = sources(make())
            except Exception as error:
                print(f"{version} {what}: {type(error).__name__}: {str(error)[:150]}", file=sys.stderr)
                continue
            for block, code in found:
                if (block, code) not in known and len(code) < MAX_SOURCE:
                    known.add((block, code))
                    rows.append({"torch": version, "what": what, "import_block": block, "code": code})
    FILE.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
