"""Pieces that several families share."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def conv(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias, padded to keep the size (divided by `stride`)."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


def depthwise(channels: int, *, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution of each channel by itself."""
    return conv(channels, channels, 3, stride=stride, groups=channels)


def named(**parts: nn.Module) -> nn.Sequential:
    """Modules in sequence, under the names that published weights give them."""
    return nn.Sequential(OrderedDict(parts))


def global_pool() -> nn.Sequential:
    """(N, C, H, W) -> (N, C): the mean over the image."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
