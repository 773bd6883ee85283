"""DenseNets (Huang et al., "Densely Connected Convolutional Networks", 2016) for CIFAR.

name         blocks           growth  bottleneck  compression   parameters at 10 classes
densenet40   12, 12, 12       12      no          no            1,019,722
densenet121  6, 12, 24, 16    32      yes         half          6,956,298, as commonly published
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from compresskit.models.zoo.architecture import Naming, architecture, scaled
from compresskit.models.zoo.layers import conv, global_pool, named

_NAMING40 = Naming(stem="features.conv0.weight", head="classifier.weight", unit="features.block1.0.conv.weight")
_NAMING121 = Naming(stem="features.conv0.weight", head="classifier.weight", unit="features.block1.0.conv2.weight")
_WIDENING = 4  # of a bottleneck, in units of the growth


class DenseLayer(nn.Module):
    """Appends `growth` new channels to those that it gets."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU()
        self.conv = conv(inputs, growth, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) -> (N, inputs + growth, H, W)."""
        return torch.cat([x, self.conv(self.relu(self.norm(x)))], dim=1)


class BottleneckLayer(nn.Module):
    """As `DenseLayer`, with a 1x1 convolution to four times the growth before the 3x3."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        hidden = _WIDENING * growth
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, hidden, 1)
        self.norm2, self.conv2 = nn.BatchNorm2d(hidden), conv(hidden, growth, 3)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) -> (N, inputs + growth, H, W)."""
        hidden = self.conv1(self.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(self.relu(self.norm2(hidden)))], dim=1)


def _transition(inputs: int, outputs: int) -> nn.Sequential:
    return named(norm=nn.BatchNorm2d(inputs), relu=nn.ReLU(), conv=conv(inputs, outputs, 1), pool=nn.AvgPool2d(2))


def _densenet(
    layer: type[nn.Module], blocks: Sequence[int], growth: int, stem: int, *, compression: int, classes: int, in_channels: int
) -> nn.Sequential:
    """A 3x3 stem, then blocks of layers with transitions between them, which divide the channels by `compression`."""
    features: dict[str, nn.Module] = {"conv0": conv(in_channels, stem, 3)}
    channels = stem
    for number, count in enumerate(blocks, 1):
        features[f"block{number}"] = nn.Sequential(*(layer(channels + growth * index, growth) for index in range(count)))
        channels += growth * count
        if number < len(blocks):
            features[f"transition{number}"] = _transition(channels, channels // compression)
            channels //= compression
    last = named(**features, norm=nn.BatchNorm2d(channels), relu=nn.ReLU())
    return named(features=last, pool=global_pool(), classifier=nn.Linear(channels, classes))


@architecture("densenet40", "DenseNet-40, k = 12 (Huang et al. 2016)", _NAMING40)
def densenet40(*, classes: int = 10, in_channels: int = 3, width: float = 1.0) -> nn.Sequential:
    """Three dense blocks without bottleneck or compression; the stem's 16 channels scale with the growth of 12."""
    growth = scaled(12, width)
    return _densenet(DenseLayer, (12, 12, 12), growth, growth * 4 // 3, compression=1, classes=classes, in_channels=in_channels)


@architecture("densenet121", "DenseNet-121, k = 32 (Huang et al. 2016), stem for CIFAR", _NAMING121)
def densenet121(*, classes: int = 10, in_channels: int = 3, width: float = 1.0) -> nn.Sequential:
    """Four dense blocks with bottlenecks, and transitions that halve the channels; `width` scales the growth, and all else with it."""
    growth = scaled(32, width)
    return _densenet(BottleneckLayer, (6, 12, 24, 16), growth, 2 * growth, compression=2, classes=classes, in_channels=in_channels)
