"""EfficientNet-B0 (Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019), strides for CIFAR.

5,288,548 parameters at 1000 classes, as published for ImageNet (the paper's 5.3M): strides do not change the count.
"""

from __future__ import annotations

from torch import nn

from compresskit.models.zoo.architecture import Naming, architecture, in_eights
from compresskit.models.zoo.layers import activated, conv, global_pool, named
from compresskit.models.zoo.mbconv import Bottleneck, InvertedBottleneck

_NAMING = Naming(stem="features.0.0.weight", head="classifier.1.weight", unit="features.17.0.weight")
# The paper's table 1: expansion, kernel, channels, repeats, stride. The stem and the 24 channels have stride 1 here, not 2.
_STAGES = ((1, 3, 16, 1, 1), (6, 3, 24, 2, 1), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2), (6, 5, 112, 3, 1), (6, 5, 192, 4, 2), (6, 3, 320, 1, 1))


@architecture("efficientnet_b0", "EfficientNet-B0 (Tan & Le 2019)", _NAMING)
def efficientnet_b0(*, classes: int = 10, in_channels: int = 3, width: float = 1.0) -> nn.Sequential:
    """16 inverted bottlenecks; channels are multiples of 8, which loses widths that are no multiples of 1/160."""
    inputs, last = in_eights(32 * width), in_eights(1280 * width)
    features: list[nn.Module] = [activated(conv(in_channels, inputs, 3), nn.SiLU)]
    for expansion, kernel, channels, repeats, stride in _STAGES:
        outputs = in_eights(channels * width)
        for index in range(repeats):
            plan = Bottleneck(
                inputs=inputs,
                hidden=inputs * expansion,
                outputs=outputs,
                kernel=kernel,
                stride=1 if index else stride,
                squeezed=inputs // 4,
                activation=nn.SiLU,
                squeeze_activation=nn.SiLU,
                gate=nn.Sigmoid,
            )
            features.append(InvertedBottleneck(plan))
            inputs = outputs
    features.append(activated(conv(inputs, last, 1), nn.SiLU))
    return named(features=nn.Sequential(*features), pool=global_pool(), classifier=nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes)))
