"""MobileNet (Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", 2017), strides for CIFAR.

3,217,226 parameters at 10 classes, as commonly published.
"""

from __future__ import annotations

from torch import nn

from compresskit.models.zoo.architecture import Naming, architecture, scaled
from compresskit.models.zoo.layers import activated, conv, depthwise, global_pool, named

_NAMING = Naming(stem="stem.0.weight", head="classifier.weight", unit="stem.0.weight")
# The paper's table 1: output channels of each pair in units of 32, and its stride. The stem has stride 1 here, not 2.
_PAIRS = ((2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *((16, 1),) * 5, (32, 2), (32, 1))


@architecture("mobilenet", "MobileNet (Howard et al. 2017)", _NAMING)
def mobilenet(*, classes: int = 10, in_channels: int = 3, width: float = 1.0) -> nn.Sequential:
    """13 pairs of a depthwise and a 1x1 convolution."""
    unit = scaled(32, width)
    inputs, pairs = unit, []
    for factor, stride in _PAIRS:
        pairs.append(nn.Sequential(activated(depthwise(inputs, stride=stride)), activated(conv(inputs, unit * factor, 1))))
        inputs = unit * factor
    stem = activated(conv(in_channels, unit, 3))
    return named(stem=stem, features=nn.Sequential(*pairs), pool=global_pool(), classifier=nn.Linear(inputs, classes))
