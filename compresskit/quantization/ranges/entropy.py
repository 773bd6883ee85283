"""Ranges of least information loss."""

from __future__ import annotations

import numpy as np

from compresskit.quantization.ranges.base import METHODS, Range, search
from compresskit.quantization.statistics import Statistics


@METHODS.register("entropy")
def entropy(statistics: Statistics, bits: int) -> Range:
    """The range whose quantization loses least of the distribution (S. Migacz, "8-bit Inference with TensorRT", 2017).

    The loss is the Kullback-Leibler divergence of the quantized distribution from the clipped one, whose outliers pile up in the bins at the
    ends. What falls on one integer is spread evenly over the bins that had values there.
    """
    kept = statistics.counts > 0
    values, counts = statistics.centers[kept], statistics.counts[kept].astype(np.float64)
    top = 2**bits - 1

    def cost(low: float, high: float) -> float:
        inside = (values >= low) & (values <= high)
        if high <= low or not inside.any():
            return float("inf")
        within = counts[inside]
        reference = within.copy()
        reference[0] += counts[values < low].sum()
        reference[-1] += counts[values > high].sum()
        levels = np.rint((values[inside] - low) * (top / (high - low))).astype(np.int64)
        spread = np.bincount(levels, within) / np.maximum(np.bincount(levels), 1)
        return _divergence(reference, spread[levels])

    return search(statistics, cost)


def _divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Kullback and Leibler's, of two histograms over the same bins, none empty."""
    p, q = p / p.sum(), q / q.sum()
    return float(p @ np.log(p / q))
