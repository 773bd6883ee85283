"""Residual networks (He et al., "Deep Residual Learning for Image Recognition", 2015): section 4.2's for CIFAR, and ResNet-18.

The published weights of the CIFAR networks come in two kinds, which differ where a block changes the number of channels:

    kind  shortcut                                                  its weights        last layer
    A     every second pixel, new channels filled with zeros        none               linear
    B     1x1 convolution with stride 2 and batch norm              downsample.0, .1   fc
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from compresskit.models.zoo.architecture import Naming, architecture, scaled
from compresskit.models.zoo.layers import SqueezeExcitation, conv, global_pool, named

Shortcut = Literal["A", "B"]

_A = Naming(stem="conv1.weight", head="linear.weight", unit="conv1.weight", options={"shortcut": "A"})
_B = Naming(stem="conv1.weight", head="fc.weight", unit="conv1.weight", options={"shortcut": "B"})
_RESNET18 = Naming(stem="conv1.weight", head="fc.weight", unit="conv1.weight")


class PadShortcut(nn.Module):
    """Halves the image by leaving out every second row and column, and fills up with `added` channels of zeros, half on each side."""

    def __init__(self, added: int) -> None:
        super().__init__()
        self.before, self.after = added // 2, added - added // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C + added, H / 2, W / 2), rounded up."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut around them; a `reduction` above 0 puts a squeeze-and-excitation behind them."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: Shortcut, reduction: int = 0) -> None:
        super().__init__()
        self.conv1 = conv(inputs, outputs, 3, stride=stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = conv(outputs, outputs, 3)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.excite = SqueezeExcitation(outputs, max(1, outputs // reduction)) if reduction else nn.Identity()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 and shortcut == "A":
            self.downsample = PadShortcut(outputs - inputs)
        elif stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(conv(inputs, outputs, 1, stride=stride), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride), rounded up."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.excite(self.bn2(self.conv2(y))) + self.downsample(x))


def residual_network(unit: int, blocks: Sequence[int], *, classes: int, in_channels: int, shortcut: Shortcut, reduction: int = 0) -> nn.Sequential:
    """A 3x3 stem, then a stage for each entry of `blocks`: each after the first halves the image and doubles the `unit` channels."""
    stages: dict[str, nn.Module] = {}
    inputs = unit
    for index, count in enumerate(blocks):
        outputs, stride = unit << index, 2 if index else 1
        first = BasicBlock(inputs, outputs, stride, shortcut, reduction)
        stages[f"layer{index + 1}"] = nn.Sequential(first, *(BasicBlock(outputs, outputs, 1, shortcut, reduction) for _ in range(count - 1)))
        inputs = outputs
    head = {"linear" if shortcut == "A" else "fc": nn.Linear(inputs, classes)}
    return named(conv1=conv(in_channels, unit, 3), bn1=nn.BatchNorm2d(unit), relu=nn.ReLU(), **stages, pool=global_pool(), **head)


def resnet_cifar(depth: int, *, classes: int = 10, in_channels: int = 3, width: float = 1.0, shortcut: Shortcut = "A") -> nn.Sequential:
    """A network of 6n + 2 = `depth` layers with 16, 32 and 64 channels; any image of 4 pixels or more a side."""
    return residual_network(scaled(16, width), [(depth - 2) // 6] * 3, classes=classes, in_channels=in_channels, shortcut=shortcut)


for _depth in (8, 20, 32, 44, 56, 110):
    architecture(f"resnet{_depth}", "ResNet for CIFAR (He et al. 2015)", _A, _B)(partial(resnet_cifar, _depth))


@architecture("resnet18", "ResNet (He et al. 2015), stem for CIFAR", _RESNET18)
def resnet18(*, classes: int = 10, in_channels: int = 3, width: float = 1.0) -> nn.Sequential:
    """ResNet-18 whose 7x7 stem with pooling became a 3x3 convolution with stride 1."""
    return residual_network(scaled(64, width), (2, 2, 2, 2), classes=classes, in_channels=in_channels, shortcut="B")
