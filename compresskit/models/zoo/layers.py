"""Pieces that several families share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn

Activation = Callable[[], nn.Module]


def conv(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias, padded to keep the size (divided by `stride`)."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


def depthwise(channels: int, *, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution of each channel by itself."""
    return conv(channels, channels, kernel, stride=stride, groups=channels)


def normed(convolution: nn.Conv2d) -> nn.Sequential:
    """A convolution and its batch norm."""
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels))


def activated(convolution: nn.Conv2d, activation: Activation = nn.ReLU) -> nn.Sequential:
    """A convolution, its batch norm and an activation."""
    return normed(convolution).append(activation())


class SqueezeExcitation(nn.Module):
    """Scales each channel by what a small network makes of the means of all (Hu et al., "Squeeze-and-Excitation Networks", 2017)."""

    def __init__(self, channels: int, squeezed: int, *, activation: Activation = nn.ReLU, gate: Activation = nn.Sigmoid) -> None:
        super().__init__()
        self.scale = named(
            pool=nn.AdaptiveAvgPool2d(1),
            fc1=nn.Conv2d(channels, squeezed, 1),
            activation=activation(),
            fc2=nn.Conv2d(squeezed, channels, 1),
            gate=gate(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) -> (N, channels, H, W)."""
        return x * self.scale(x)


def named(**parts: nn.Module) -> nn.Sequential:
    """Modules in sequence, under the names that published weights give them."""
    return nn.Sequential(OrderedDict(parts))


def global_pool() -> nn.Sequential:
    """(N, C, H, W) -> (N, C): the mean over the image."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
