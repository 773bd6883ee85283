"""MobileNetV3-Small (Howard et al., "Searching for MobileNetV3", 2019), strides for CIFAR.

2,542,856 parameters at 1000 classes, as published for ImageNet: strides do not change the count.
"""

from __future__ import annotations

from torch import nn

from compresskit.models.zoo.architecture import Naming, architecture, in_eights
from compresskit.models.zoo.layers import activated, conv, global_pool, named
from compresskit.models.zoo.mbconv import Bottleneck, InvertedBottleneck

_NAMING = Naming(stem="features.0.0.weight", head="classifier.3.weight", unit="classifier.0.weight")
# The paper's table 2: kernel, expanded channels, output channels, squeeze-and-excitation, hard-swish (else ReLU), stride.
# The stem and the first block have stride 1 here, not 2.
_BLOCKS = (
    (3, 16, 16, True, False, 1),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)


@architecture("mobilenet_v3_small", "MobileNetV3-Small (Howard et al. 2019)", _NAMING)
def mobilenet_v3_small(*, classes: int = 10, in_channels: int = 3, width: float = 1.0) -> nn.Sequential:
    """11 inverted bottlenecks; channels are multiples of 8, as in the paper, which loses widths that are no multiples of 1/128."""
    inputs = in_eights(16 * width)
    features: list[nn.Module] = [activated(conv(in_channels, inputs, 3), nn.Hardswish)]
    for kernel, expanded, channels, excited, hard_swish, stride in _BLOCKS:
        hidden, outputs = in_eights(expanded * width), in_eights(channels * width)
        plan = Bottleneck(
            inputs=inputs,
            hidden=hidden,
            outputs=outputs,
            kernel=kernel,
            stride=stride,
            squeezed=in_eights(hidden / 4) if excited else 0,
            activation=nn.Hardswish if hard_swish else nn.ReLU,
            squeeze_activation=nn.ReLU,
            gate=nn.Hardsigmoid,
        )
        features.append(InvertedBottleneck(plan))
        inputs = outputs
    features.append(activated(conv(inputs, 6 * inputs, 1), nn.Hardswish))
    last = in_eights(1024 * width)
    classifier = nn.Sequential(nn.Linear(6 * inputs, last), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(last, classes))
    return named(features=nn.Sequential(*features), pool=global_pool(), classifier=classifier)
