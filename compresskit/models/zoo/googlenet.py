"""GoogLeNet (Szegedy et al., "Going Deeper with Convolutions", 2014) for CIFAR.

As usual there: one 3x3 convolution as stem, batch norm after every convolution, two 3x3 convolutions in place of each 5x5, and
no auxiliary classifiers. 6,166,250 parameters at 10 classes, as commonly published.
"""

from __future__ import annotations

import torch
from torch import nn

from compresskit.models.zoo.architecture import Naming, architecture, scaled
from compresskit.models.zoo.layers import global_pool, named

_UNIT = 8  # divides every number of channels
_NAMING = Naming(stem="stem.0.weight", head="classifier.weight", unit="stem.0.weight")

# The paper's table 1: of each module the channels of the 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5 and pooled branches, by stage.
_STAGES = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)
_STEM = 192


def _conv(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.BatchNorm2d(outputs), nn.ReLU())


class Inception(nn.Module):
    """Four branches side by side, their channels joined."""

    def __init__(self, inputs: int, single: int, reduce3: int, three: int, reduce5: int, five: int, pooled: int) -> None:
        super().__init__()
        self.branch1 = _conv(inputs, single, 1)
        self.branch2 = nn.Sequential(_conv(inputs, reduce3, 1), _conv(reduce3, three, 3))
        self.branch3 = nn.Sequential(_conv(inputs, reduce5, 1), _conv(reduce5, five, 3), _conv(five, five, 3))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), _conv(inputs, pooled, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) -> (N, single + three + five + pooled, H, W)."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1)


@architecture("googlenet", "GoogLeNet with batch norm (Szegedy et al. 2014)", _NAMING)
def googlenet(*, classes: int = 10, in_channels: int = 3, width: float = 1.0) -> nn.Sequential:
    """Nine inception modules in three stages; every number of channels is a multiple of 8, and the 8 scale with `width`."""
    unit = scaled(_UNIT, width)
    inputs = _STEM // _UNIT * unit
    stages: dict[str, nn.Module] = {"stem": _conv(in_channels, inputs, 3)}
    for index, modules in enumerate(_STAGES):
        if index:
            stages[f"pool{index}"] = nn.MaxPool2d(3, stride=2, padding=1)
        stage = []
        for channels in modules:
            single, reduce3, three, reduce5, five, pooled = (count // _UNIT * unit for count in channels)
            stage.append(Inception(inputs, single, reduce3, three, reduce5, five, pooled))
            inputs = single + three + five + pooled
        stages[f"stage{index + 1}"] = nn.Sequential(*stage)
    return named(**stages, pool=global_pool(), classifier=nn.Linear(inputs, classes))
