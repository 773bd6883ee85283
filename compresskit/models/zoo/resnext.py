"""ResNeXt (Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", 2016) for CIFAR: 29 layers, 2 groups of 64.

With a 1x1 stem, as in the form that is commonly published for CIFAR-10: 9,128,778 parameters.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from compresskit.models.zoo.architecture import Naming, architecture, scaled
from compresskit.models.zoo.layers import activated, conv, global_pool, named, normed

_NAMING = Naming(stem="stem.0.weight", head="classifier.weight", unit="stem.0.weight")
_GROUPS, _EXPANSION, _REPEATS = 2, 2, 3


class GroupedBottleneck(nn.Module):
    """1x1 convolution, 3x3 in groups, 1x1, beside a shortcut; batch norm after each, and ReLU but after the last."""

    def __init__(self, inputs: int, hidden: int, outputs: int, groups: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            activated(conv(inputs, hidden, 1)), activated(conv(hidden, hidden, 3, stride=stride, groups=groups)), normed(conv(hidden, outputs, 1))
        )
        self.shortcut = nn.Identity() if stride == 1 and inputs == outputs else normed(conv(inputs, outputs, 1, stride=stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride), rounded up."""
        return F.relu(self.body(x) + self.shortcut(x))


@architecture("resnext29_2x64d", "ResNeXt-29, 2x64d (Xie et al. 2016)", _NAMING)
def resnext29(*, classes: int = 10, in_channels: int = 3, width: float = 1.0) -> nn.Sequential:
    """Three stages of three blocks, each after the first halving the image and doubling the channels."""
    unit = scaled(64, width)
    stages: dict[str, nn.Module] = {"stem": activated(conv(in_channels, unit, 1))}
    inputs = unit
    for index in range(3):
        hidden = _GROUPS * unit << index
        blocks = []
        for repeat in range(_REPEATS):
            blocks.append(GroupedBottleneck(inputs, hidden, _EXPANSION * hidden, _GROUPS, 2 if index and not repeat else 1))
            inputs = _EXPANSION * hidden
        stages[f"stage{index + 1}"] = nn.Sequential(*blocks)
    return named(**stages, pool=global_pool(), classifier=nn.Linear(inputs, classes))
