"""Samples to levels and back: the integers that networks reproduce."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.signal import Scale


def to_levels(values: NDArray[np.generic], scale: Scale) -> NDArray[np.int64]:
    """The nearest level of every sample."""
    levels = np.rint((values.astype(np.float64) - scale.low) / scale.step).astype(np.int64)
    return np.clip(levels, 0, scale.levels - 1)


def from_levels(levels: NDArray[np.int64], scale: Scale, dtype: np.dtype) -> NDArray[np.generic]:
    """The samples that `levels` stand for: one product, one sum and one rounding each, so that every machine finds the same."""
    samples = levels * scale.step + scale.low
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        samples = np.clip(np.rint(samples), bounds.min, bounds.max)
    return samples.astype(dtype)
