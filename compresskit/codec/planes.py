"""Channels as a base network takes them: three together, or each by itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COLOUR = 3

Integers = NDArray[np.integer]


def planes(channels: int, wanted: int) -> list[slice]:
    """Which channels of a signal make a plane for a base network of `wanted` channels: red, green and blue one, every other its own.

    >>> planes(4, 3)
    [slice(0, 3, None), slice(3, 4, None)]
    """
    together = [slice(0, COLOUR)] if wanted == COLOUR and channels >= COLOUR else []
    return [*together, *(slice(channel, channel + 1) for channel in range(COLOUR if together else 0, channels))]


def widen(plane: Integers, wanted: int) -> Integers:
    """A plane (..., 1 or `wanted`) as (..., `wanted`): a single channel is repeated."""
    return plane if plane.shape[-1] == wanted else np.repeat(plane, wanted, axis=-1)


def narrow(plane: Integers, channels: int) -> Integers:
    """What `widen` made wider, as (..., `channels`): the mean of a repeated channel, halves rounded up."""
    if plane.shape[-1] == channels:
        return plane
    count = plane.shape[-1]
    return (2 * plane.sum(axis=-1, keepdims=True, dtype=np.int64) + count) // (2 * count)
