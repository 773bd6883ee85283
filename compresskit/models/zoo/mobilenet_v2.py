"""MobileNetV2 (Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018), strides for CIFAR."""

from __future__ import annotations

import torch
from torch import nn

from compresskit.models.zoo.architecture import Naming, architecture, in_eights
from compresskit.models.zoo.layers import activated, conv, depthwise, global_pool, named

# The paper's table 2: expansion, channels, repeats, stride. The stem and the 24 channels have stride 1 here, not 2.
_BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_NAMING = Naming(stem="features.0.0.weight", head="classifier.1.weight", unit="features.17.conv.2.weight")


class InvertedResidual(nn.Module):
    """1x1 convolution to `expansion` times the channels, depthwise 3x3, 1x1 back without activation; a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [activated(conv(inputs, hidden, 1), nn.ReLU6)] if expansion != 1 else []
        self.conv = nn.Sequential(*expand, activated(depthwise(hidden, stride=stride), nn.ReLU6), conv(hidden, outputs, 1), nn.BatchNorm2d(outputs))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride), rounded up."""
        return x + self.conv(x) if self.residual else self.conv(x)


@architecture("mobilenet_v2", "MobileNetV2 (Sandler et al. 2018)", _NAMING)
def mobilenet_v2(*, classes: int = 10, in_channels: int = 3, width: float = 1.0) -> nn.Sequential:
    """17 inverted residuals; channels are multiples of 8, and the last 1280 never fewer, as in the paper.

    That rounding loses widths which are no multiples of 0.025 (all published ones are): they cannot be told from the weights.
    """
    inputs, last = in_eights(32 * width), in_eights(1280 * max(1.0, width))
    features: list[nn.Module] = [activated(conv(in_channels, inputs, 3), nn.ReLU6)]
    for expansion, channels, repeats, stride in _BLOCKS:
        outputs = in_eights(channels * width)
        for index in range(repeats):
            features.append(InvertedResidual(inputs, outputs, expansion, 1 if index else stride))
            inputs = outputs
    features.append(activated(conv(inputs, last, 1), nn.ReLU6))
    return named(features=nn.Sequential(*features), pool=global_pool(), classifier=nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes)))
