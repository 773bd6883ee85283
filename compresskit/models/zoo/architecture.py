"""What the zoo knows about an architecture, and the registry that families file theirs in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from compresskit.errors import UsageError
from compresskit.registry import Registry

Builder = Callable[..., nn.Module]
Shapes = Mapping[str, tuple[int, ...]]
Options = dict[str, Any]
Geometry = Callable[[Shapes], Options]


def _no_geometry(shapes: Shapes) -> Options:
    return {}


@dataclass(frozen=True)
class Naming:
    """The parameters of a published network that tell how it was built.

    Attributes:
        stem: the first weight; its axis 1 counts the input channels. None: the inputs have none.
        head: the last weight; its axis 0 counts the classes.
        unit: a weight whose axis 0 is proportional to the width multiplier.
        options: what a builder must be told to give its parameters these names.
    """

    stem: str | None
    head: str
    unit: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Architecture:
    """One entry of the zoo.

    Attributes:
        name: what users type.
        family: title and source of the architecture.
        build: `build(classes=, in_channels=, width=)`, and `size=` where the parameters depend on the image size; for texts
            `build(classes=, width=, vocabulary=, tokens=)`.
        namings: the published ways to name its parameters, the builder's default first.
        input_shape: channels, height and width that the defaults are made for; for texts the number of tokens, for tables that of columns.
        dtype: of the input; int64 for token ids.
        geometry: reads from parameter shapes what `namings` cannot tell, such as `size`.
    """

    name: str
    family: str
    build: Builder
    namings: tuple[Naming, ...]
    input_shape: tuple[int, ...] = (3, 32, 32)
    dtype: torch.dtype = torch.float32
    geometry: Geometry = _no_geometry


ARCHITECTURES: Registry[Architecture] = Registry("architecture")


def architecture(name: str, family: str, *namings: Naming, **details: Any) -> Callable[[Builder], Builder]:
    """Return a decorator that files a builder in the zoo; see `Architecture` for the arguments, `details` being its last ones."""

    def file_builder(build: Builder) -> Builder:
        ARCHITECTURES.register(name)(Architecture(name, family, build, namings, **details))
        return build

    return file_builder


def build(name: str, **options: Any) -> nn.Module:
    """Build an architecture with freshly drawn weights.

    Args:
        name: one of `ARCHITECTURES`.
        options: what its builder takes: `classes` (length of the output, 10 unless said otherwise), `in_channels` (3), `width`, a factor on
            the number of channels of every layer (1); `size` (vit, mlp), `shortcut` (resnet20 and its kin), `vocabulary` and `tokens` (bert).

    Raises:
        UsageError: an unknown name, or a number that is not positive and finite.
    """
    for option, value in options.items():
        if not isinstance(value, str) and not 0 < value < math.inf:
            raise UsageError(f"architecture {name!r}: {option} is {value}, expected more than 0")
    return ARCHITECTURES[name].build(**options)


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, at least 1.

    A family scales one unit with it and multiplies that by whole numbers, so that a width can be read back from any layer.
    """
    return max(1, round(channels * width))


def in_eights(channels: float) -> int:
    """The multiple of 8 nearest to `channels`, but not below 90% of it: the rounding of the MobileNets and their kin."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8
