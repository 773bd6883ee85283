"""Denoisers: a small U-Net for images, a perceptron for tables. Both take noisy samples, their times, and classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EMBEDDING = 64
_GROUPS = 8


class Condition(nn.Module):
    """A vector for the time and the class; class number `classes` stands for none."""

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        self.classes = nn.Embedding(classes + 1, EMBEDDING)
        self.layers = nn.Sequential(nn.Linear(EMBEDDING, size), nn.SiLU(), nn.Linear(size, size))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        """(N, size) from times (N,) and classes (N,)."""
        rates = torch.exp(torch.linspace(0, math.log(1000), EMBEDDING // 2, device=t.device))
        angles = t[:, None] * rates
        return self.layers(torch.cat([angles.sin(), angles.cos()], 1) + self.classes(y))


class Block(nn.Module):
    """Two convolutions with norms, shifted and scaled by the condition, around a shortcut."""

    def __init__(self, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        self.first_norm, self.first = nn.GroupNorm(math.gcd(_GROUPS, inputs), inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second_norm, self.second = nn.GroupNorm(math.gcd(_GROUPS, outputs), outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(condition, 2 * outputs)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, 1)
        hidden = self.second_norm(self.first(F.silu(self.first_norm(x)))) * (1 + scale) + shift
        return self.shortcut(x) + self.second(F.silu(hidden))


class UNet(nn.Module):
    """Images (N, channels, H, W) of any size, halved `depth` times inside; attention where they are smallest.

    Args:
        width: channels at full size; twice as many after each halving.
    """

    def __init__(self, channels: int, classes: int, width: int = 32, depth: int = 2) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        size = 4 * width
        self.depth = depth
        self.condition = Condition(classes, size)
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList(Block(before, after, size) for before, after in zip([width, *widths[:-1]], widths, strict=True))
        self.attention_norm, self.attention = nn.GroupNorm(_GROUPS, widths[-1]), nn.MultiheadAttention(widths[-1], 4, batch_first=True)
        self.middle = Block(widths[-1], widths[-1], size)
        self.up = nn.ModuleList(Block(after + before, before, size) for before, after in zip(widths[-2::-1], widths[:0:-1], strict=True))
        self.leave_norm, self.leave = nn.GroupNorm(_GROUPS, width), nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """v, shaped like `x`."""
        height, breadth = x.shape[2:]
        multiple = 2**self.depth
        condition = self.condition(t, y)
        hidden = self.enter(F.pad(x, (0, -breadth % multiple, 0, -height % multiple), mode="replicate"))
        passed = []
        for level, block in enumerate(self.down):
            hidden = block(hidden if level == 0 else F.avg_pool2d(hidden, 2), condition)
            passed.append(hidden)
        flat = self.attention_norm(hidden).flatten(2).transpose(1, 2)
        mixed = self.attention(flat, flat, flat, need_weights=False)[0]
        hidden = self.middle(hidden + mixed.transpose(1, 2).view_as(hidden), condition)
        for block, other in zip(self.up, passed[-2::-1], strict=True):
            hidden = block(torch.cat([F.interpolate(hidden, scale_factor=2.0), other], 1), condition)
        return self.leave(F.silu(self.leave_norm(hidden)))[:, :, :height, :breadth]


class Perceptron(nn.Module):
    """Rows (N, columns) of a table, through residual layers of `width`."""

    def __init__(self, columns: int, classes: int, width: int = 256, depth: int = 3) -> None:
        super().__init__()
        self.condition = Condition(classes, width)
        self.enter = nn.Linear(columns, width)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)) for _ in range(depth)
        )
        self.leave = nn.Linear(width, columns)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """v, shaped like `x`."""
        hidden, condition = self.enter(x), self.condition(t, y)
        for layer in self.layers:
            hidden = hidden + layer(hidden + condition)
        return self.leave(hidden)


def _residual(width: int) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
