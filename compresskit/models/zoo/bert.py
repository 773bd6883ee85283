"""BERT (Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2018), small, for classification.

    ids (N, tokens) ─► words + positions ─► norm ─► attention, perceptron ─► ... ─► mean over the words ─► pooler ─► classifier
          └─► which are padding ─────────────────────────┘ (twice)

Unlike the paper's: two layers with 128 channels, no segments, and a mean in place of the first token, which learns from fewer texts.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from compresskit.models.zoo.architecture import Naming, Options, Shapes, architecture, scaled
from compresskit.models.zoo.layers import named

PADDING = 0  # the id that fills texts up; the first token always counts
_DEPTH, _HEADS, _HEAD_DIM = 2, 4, 32
_DROPOUT = 0.1
_NAMING = Naming(stem=None, head="classifier.weight", unit="norm.weight")


class MaskedAttention(nn.Module):
    """Multi-head self-attention that passes over padding."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.output = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """(N, tokens, dim) and (N, 1, 1, tokens), true where a token is no padding, -> (N, tokens, dim)."""
        q, k, v = (layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value))
        heads = F.scaled_dot_product_attention(q, k, v, attn_mask=real, scale=self.scale)
        return self.output(heads.transpose(1, 2).flatten(2))


class EncoderLayer(nn.Module):
    """Attention, then a perceptron, each beside a shortcut and before a layer norm."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention = MaskedAttention(dim, heads)
        self.norm1 = nn.LayerNorm(dim)
        self.mlp = named(fc1=nn.Linear(dim, 4 * dim), act=nn.GELU(), fc2=nn.Linear(4 * dim, dim))
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, x: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """As `MaskedAttention`."""
        x = self.norm1(x + self.dropout(self.attention(x, real)))
        return self.norm2(x + self.dropout(self.mlp(x)))


class Bert(nn.Module):
    """Token ids to logits; `PADDING` fills up behind the text."""

    first: torch.Tensor

    def __init__(self, dim: int, heads: int, depth: int, *, classes: int, vocabulary: int, tokens: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, dim)
        self.positions = nn.Parameter(torch.randn(1, tokens, dim) * 0.02)
        self.norm = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(EncoderLayer(dim, heads) for _ in range(depth))
        self.pooler = named(fc=nn.Linear(dim, dim), act=nn.Tanh(), dropout=nn.Dropout(_DROPOUT))
        self.classifier = nn.Linear(dim, classes)
        self.register_buffer("first", torch.arange(tokens)[None] == 0, persistent=False)
        nn.init.normal_(self.words.weight, std=0.02)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(N, tokens) int64, from 0 to vocabulary - 1, -> (N, classes)."""
        real = (ids != PADDING) | self.first
        x = self.norm(self.words(ids) + self.positions)
        for layer in self.layers:
            x = layer(x, real[:, None, None])
        weights = real[:, :, None].to(x.dtype)
        return self.classifier(self.pooler((x * weights).sum(1) / weights.sum(1)))


def _geometry(shapes: Shapes) -> Options:
    """The size of the vocabulary, and the tokens of a text."""
    words, positions = shapes.get("words.weight", ())[:1], shapes.get("positions", ())[1:2]
    return {"vocabulary": words[0], "tokens": positions[0]} if words and positions else {}


@architecture("bert", "BERT, small (Devlin et al. 2018), depth 2", _NAMING, input_shape=(64,), dtype=torch.int64, geometry=_geometry)
def bert(*, classes: int = 2, width: float = 1.0, vocabulary: int = 8192, tokens: int = 64) -> Bert:
    """Four heads of 32 channels, for texts of `tokens` ids below `vocabulary`."""
    return Bert(_HEADS * scaled(_HEAD_DIM, width), _HEADS, _DEPTH, classes=classes, vocabulary=vocabulary, tokens=tokens)
