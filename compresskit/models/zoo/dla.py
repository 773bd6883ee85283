"""Deep layer aggregation (Yu et al., "Deep Layer Aggregation", 2017), the simple form for CIFAR: binary trees without extra shortcuts to roots.

15,142,970 parameters at 10 classes, as commonly published.
"""

from __future__ import annotations

import torch
from torch import nn

from compresskit.models.zoo.architecture import Naming, architecture, scaled
from compresskit.models.zoo.layers import activated, conv, global_pool, named
from compresskit.models.zoo.resnet import BasicBlock

_NAMING = Naming(stem="stem.0.0.weight", head="classifier.weight", unit="stem.0.0.weight")
_TREES = ((1, 1), (2, 2), (2, 2), (1, 2))  # levels and stride of each stage, which doubles the channels


class Tree(nn.Module):
    """Two subtrees in a row (at level 1: two residual blocks), and a 1x1 convolution on the results of both: the root."""

    def __init__(self, inputs: int, outputs: int, levels: int, stride: int) -> None:
        super().__init__()
        self.left: nn.Module = _subtree(inputs, outputs, levels - 1, stride)
        self.right: nn.Module = _subtree(outputs, outputs, levels - 1, 1)
        self.root = activated(conv(2 * outputs, outputs, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride), rounded up."""
        left = self.left(x)
        return self.root(torch.cat([left, self.right(left)], dim=1))


def _subtree(inputs: int, outputs: int, levels: int, stride: int) -> nn.Module:
    return Tree(inputs, outputs, levels, stride) if levels else BasicBlock(inputs, outputs, stride, "B")


@architecture("simple_dla", "Deep layer aggregation, simple (Yu et al. 2017)", _NAMING)
def simple_dla(*, classes: int = 10, in_channels: int = 3, width: float = 1.0) -> nn.Sequential:
    """Three convolutions, then four trees with 64 to 512 channels."""
    unit = scaled(16, width)
    stem = nn.Sequential(*(activated(conv(*channels, 3)) for channels in ((in_channels, unit), (unit, unit), (unit, 2 * unit))))
    trees: dict[str, nn.Module] = {}
    inputs = 2 * unit
    for index, (levels, stride) in enumerate(_TREES):
        trees[f"tree{index + 1}"] = Tree(inputs, 2 * inputs, levels, stride)
        inputs *= 2
    return named(stem=stem, **trees, pool=global_pool(), classifier=nn.Linear(inputs, classes))
