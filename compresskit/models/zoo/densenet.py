"""DenseNet (Huang et al., "Densely Connected Convolutional Networks", 2016): the CIFAR network with 40 layers and growth 12."""

from __future__ import annotations

import torch
from torch import nn

from compresskit.models.zoo.architecture import Naming, architecture, scaled
from compresskit.models.zoo.layers import conv, global_pool, named

_LAYERS = 12  # in each of the three blocks: (40 - 4) / 3
_NAMING = Naming(stem="features.conv0.weight", head="classifier.weight", unit="features.block1.0.conv.weight")


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


def _transition(channels: int) -> nn.Sequential:
    return named(norm=nn.BatchNorm2d(channels), relu=nn.ReLU(), conv=conv(channels, channels, 1), pool=nn.AvgPool2d(2))


@architecture("densenet40", "DenseNet-40, k = 12 (Huang et al. 2016)", _NAMING)
def densenet40(*, classes: int = 10, in_channels: int = 3, width: float = 1.0) -> nn.Sequential:
    """Three dense blocks without bottleneck or compression; the stem's 16 channels scale with the growth of 12."""
    growth = scaled(12, width)
    channels = growth * 4 // 3
    features: dict[str, nn.Module] = {"conv0": conv(in_channels, channels, 3)}
    for block in (1, 2, 3):
        features[f"block{block}"] = nn.Sequential(*(DenseLayer(channels + growth * layer, growth) for layer in range(_LAYERS)))
        channels += growth * _LAYERS
        if block < 3:
            features[f"transition{block}"] = _transition(channels)
    last = named(**features, norm=nn.BatchNorm2d(channels), relu=nn.ReLU())
    return named(features=last, pool=global_pool(), classifier=nn.Linear(channels, classes))
