"""A multilayer perceptron on flattened images."""

from __future__ import annotations

from math import isqrt

from torch import nn

from compresskit.models.zoo.architecture import Naming, Options, Shapes, architecture, scaled
from compresskit.models.zoo.layers import named

_NAMING = Naming(stem="fc1.weight", head="fc3.weight", unit="fc1.weight")


def _geometry(shapes: Shapes) -> Options:
    """Square images with 3 channels or 1 whose pixels are as many as the first layer's inputs, where there are such."""
    pixels = shapes.get("fc1.weight", ())[1:2]
    for channels in (3, 1):
        if pixels and pixels[0] and isqrt(pixels[0] // channels) ** 2 * channels == pixels[0]:
            return {"in_channels": channels, "size": isqrt(pixels[0] // channels)}
    return {}


@architecture("mlp", "Multilayer perceptron", _NAMING, geometry=_geometry)
def mlp(*, classes: int = 10, in_channels: int = 3, width: float = 1.0, size: int = 32) -> nn.Sequential:
    """Two hidden layers of 512 units, for images of `size` pixels a side."""
    hidden = scaled(512, width)
    return named(
        flatten=nn.Flatten(),
        fc1=nn.Linear(in_channels * size * size, hidden),
        relu1=nn.ReLU(),
        fc2=nn.Linear(hidden, hidden),
        relu2=nn.ReLU(),
        fc3=nn.Linear(hidden, classes),
    )
