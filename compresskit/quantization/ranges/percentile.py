"""Ranges that leave out a fixed share of the values."""

from __future__ import annotations

import numpy as np

from compresskit.quantization.ranges.base import METHODS, Range
from compresskit.quantization.statistics import BINS, Statistics

OUTSIDE = 1e-4
"""The share that may lie beyond each end."""


@METHODS.register("percentile")
def percentile(statistics: Statistics, bits: int) -> Range:
    """Clip one value in 10,000 at each end (McKinstry et al. 2019 clip 1 to 3)."""
    allowed = OUTSIDE * statistics.total
    width = 2 * statistics.reach / BINS
    edges = (np.arange(BINS + 1) - BINS / 2) * width
    above = np.cumsum(statistics.counts[::-1])[::-1]
    below = np.cumsum(statistics.counts)
    high = edges[1:][above > allowed].max(initial=0.0)
    low = edges[:-1][below > allowed].min(initial=0.0)
    return max(float(low), statistics.minimum), min(float(high), statistics.maximum)
