"""Vision transformer (Dosovitskiy et al., "An Image is Worth 16x16 Words", 2020) in a size for CIFAR."""

from __future__ import annotations

from math import isqrt

import torch
from torch import nn
from torch.nn import functional as F

from compresskit.models.zoo.architecture import Naming, Options, Shapes, architecture, scaled
from compresskit.models.zoo.layers import named

_PATCH, _DEPTH, _HEADS, _HEAD_DIM = 4, 6, 3, 64
_NAMING = Naming(stem="patch_embed.proj.weight", head="head.weight", unit="patch_embed.proj.weight")


class Attention(nn.Module):
    """Multi-head self-attention; one linear layer makes queries, keys and values."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, tokens, dim) -> (N, tokens, dim)."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class EncoderBlock(nn.Module):
    """Attention, then a perceptron, each behind a layer norm and beside a shortcut."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = named(fc1=nn.Linear(dim, 4 * dim), act=nn.GELU(), fc2=nn.Linear(4 * dim, dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, tokens, dim) -> (N, tokens, dim)."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """Patches as tokens behind a class token, learned positions, and a linear head on the class token."""

    def __init__(self, dim: int, heads: int, depth: int, *, classes: int, in_channels: int, size: int) -> None:
        super().__init__()
        self.patch_embed = named(proj=nn.Conv2d(in_channels, dim, _PATCH, _PATCH))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, (size // _PATCH) ** 2 + 1, dim) * 0.02)
        self.blocks = nn.Sequential(*(EncoderBlock(dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, size, size) -> (N, classes)."""
        patches = self.patch_embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), patches], dim=1)
        return self.head(self.norm(self.blocks(tokens + self.pos_embed))[:, 0])


def _geometry(shapes: Shapes) -> Options:
    """The image size from the number of positions."""
    positions = shapes.get("pos_embed", ())[1:2]
    return {"size": _PATCH * isqrt(positions[0] - 1)} if positions and positions[0] > 1 else {}


@architecture("vit", "Vision transformer (Dosovitskiy et al. 2020), patch 4, depth 6", _NAMING, geometry=_geometry)
def vit(*, classes: int = 10, in_channels: int = 3, width: float = 1.0, size: int = 32) -> VisionTransformer:
    """Three heads of 64 channels, for images of `size` pixels a side, a multiple of 4."""
    dim = _HEADS * scaled(_HEAD_DIM, width)
    return VisionTransformer(dim, _HEADS, _DEPTH, classes=classes, in_channels=in_channels, size=size)
