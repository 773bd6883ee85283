"""Groups: channels that can only be cut together, and every slice of every tensor that goes with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Role = Literal["out", "in", "norm", "bias", "other"]


@dataclass(frozen=True)
class Slices:
    """The part of one tensor that belongs to a group.

    Attributes:
        parameter: name of the parameter or buffer in the graph module.
        dim: its dimension that shrinks.
        role: "out" where a convolution or linear layer produces the channels, "in" where one consumes them, "norm" and "bias" for what
            goes along; "other" for free parameters such as position embeddings.
        positions: (n,) int64 indices along `dim`.
        channels: (n,) int64, which channel 0 .. size-1 of the group each position belongs to.
    """

    parameter: str
    dim: int
    role: Role
    positions: np.ndarray
    channels: np.ndarray


@dataclass(frozen=True)
class Group:
    """`size` interchangeable channels; cutting channel c removes all positions with `channels == c` from every slice.

    A residual stage of a ResNet is one group: the convolutions that are added up, their norms, and the inputs of whoever reads the sum.
    """

    name: str
    size: int
    slices: tuple[Slices, ...]
