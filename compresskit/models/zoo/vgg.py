"""VGG (Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014) for CIFAR.

As usual there: batch norm after every convolution, and one linear layer in place of the three.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from compresskit.models.zoo.architecture import Naming, architecture, scaled
from compresskit.models.zoo.layers import named

_NAMING = Naming(stem="features.0.weight", head="classifier.weight", unit="features.0.weight")
_WIDTHS = (1, 2, 4, 8, 8)  # of the stages, in units of 64 channels
_CONVOLUTIONS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}  # in each stage: the paper's columns D and E


def vgg(convolutions: tuple[int, ...], *, classes: int = 10, in_channels: int = 3, width: float = 1.0) -> nn.Sequential:
    """Five stages of 3x3 convolutions, each halving the image: 32 pixels a side or more."""
    unit = scaled(64, width)
    features: list[nn.Module] = []
    inputs = in_channels
    for count, factor in zip(convolutions, _WIDTHS, strict=True):
        for _ in range(count):
            features += [nn.Conv2d(inputs, unit * factor, 3, padding=1), nn.BatchNorm2d(unit * factor), nn.ReLU()]
            inputs = unit * factor
        features.append(nn.MaxPool2d(2))
    return named(features=nn.Sequential(*features), pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), classifier=nn.Linear(inputs, classes))


for _name, _convolutions in _CONVOLUTIONS.items():
    architecture(_name, "VGG with batch norm (Simonyan & Zisserman 2014)", _NAMING)(partial(vgg, _convolutions))
