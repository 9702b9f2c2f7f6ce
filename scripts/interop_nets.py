"""Modules that torch 1.13.1 and today's torch can save alike; needs nothing but torch."""

import torch
from torch import nn


class Recurrent(nn.Module):
    """Embedding, recurrence, attention, and tied weights."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 6, padding_idx=0)
        self.rows = nn.GRU(6, 6, num_layers=2, batch_first=True, bidirectional=True)
        self.down = nn.Linear(12, 6, bias=False)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.out = nn.Linear(6, 11, bias=False)
        self.out.weight = self.embedding.weight
        self.register_buffer("steps", torch.tensor(3))
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("transient", torch.ones(2), persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.down(self.rows(self.embedding(tokens))[0])
        return self.out(self.attention(hidden, hidden, hidden)[0])


class Convolutional(nn.Module):
    """Convolutions in 1, 2 and 3 dimensions, statistics, groups, weights in channels-last order."""

    def __init__(self):
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.ConvTranspose2d(4, 2, 3))
        self.line, self.volume = nn.Conv1d(2, 4, 3, groups=2), nn.Conv3d(1, 2, 2)
        self.norm = nn.GroupNorm(2, 4)
        self.halves = nn.Parameter(torch.randn(4).half(), requires_grad=False)
        self.image.to(memory_format=torch.channels_last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.line(self.image(x).flatten(2))) * self.halves.float()[:, None]
        return self.volume(x[:, None, :, :, None].expand(-1, -1, -1, -1, 2))


TOKENS = torch.tensor([[1, 2, 3, 4, 5]])
IMAGE = torch.linspace(-1, 1, 3 * 8 * 8).reshape(1, 3, 8, 8).sin()
NETWORKS = {"recurrent": (Recurrent, TOKENS), "convolutional": (Convolutional, IMAGE)}


def values():
    """Tensors of many dtypes, layouts and shapes."""
    base = torch.randn(4, 6)
    made = {"rows": base[1:3], "turned": base.t(), "scalar": base[2, 3], "empty": base[:0], "wide": base[:1].expand(5, 6),
            "steps": base[:, ::2], "wave": torch.complex(base, base), "mask": base > 0, "packed": base[0].flip(0)}
    for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        made[str(dtype).replace("torch.", "")] = (base * 10).to(dtype)
    return made
