"""Samples to levels and back: the integers that networks reproduce."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.signal import Scale

Levels = NDArray[np.uint16]
"""There are at most 65536, and those of a whole signal are in memory at once."""

_AT_ONCE = 2**20  # samples in wider integers or floats


def to_levels(values: NDArray[np.generic], scale: Scale) -> NDArray[np.int64]:
    """The nearest level of every sample."""
    levels = np.rint((values.astype(np.float64) - scale.low) / scale.step)
    return np.clip(levels, 0, scale.levels - 1).astype(np.int64)


def from_levels(levels: NDArray[np.integer], scale: Scale, dtype: np.dtype) -> NDArray[np.generic]:
    """The samples that `levels` stand for: one product, one sum and one rounding each, so that every machine finds the same."""
    low, high = bounds(dtype)
    flat = np.ascontiguousarray(levels).reshape(-1)
    result = np.empty(flat.shape, dtype)
    for begin in range(0, flat.size, _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        samples = flat[part] * np.float64(scale.step) + scale.low
        result[part] = np.clip(samples if dtype.kind == "f" else np.rint(samples), low, high)
    return result.reshape(levels.shape)


def bounds(dtype: np.dtype) -> tuple[float, float]:
    """The least and the greatest float64 that a sample of `dtype` can hold: what is beyond, each machine would convert in its own way."""
    if dtype.kind == "f":
        return float(np.finfo(dtype).min), float(np.finfo(dtype).max)
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return float(low), float(high) if int(float(high)) <= high else math.nextafter(float(high), 0.0)


def rendered(evaluated: Callable[[NDArray[np.int64]], NDArray[np.int64]], coordinates: NDArray[np.int64], patches: int, channels: int) -> Levels:
    """Levels (P, N, channels) that `evaluated` finds at `coordinates` (N, dims), a few at a time: little more is in memory than the result."""
    result = np.empty((patches, len(coordinates), channels), np.uint16)
    at_once = max(1, _AT_ONCE // max(1, patches * channels))
    for begin in range(0, len(coordinates), at_once):
        part = slice(begin, begin + at_once)
        result[:, part] = evaluated(coordinates[part])
    return result
