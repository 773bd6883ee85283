"""Ranges of least squared error."""

from __future__ import annotations

import numpy as np

from compresskit.quantization.ranges.base import METHODS, Range, search
from compresskit.quantization.statistics import Statistics


@METHODS.register("mse")
def mse(statistics: Statistics, bits: int) -> Range:
    """The range whose quantization changes the values least in the mean square: clipping weighed against coarser steps.

    The default, as measured on training images that nothing was calibrated on (tests/benchmarks/ptq.py, `by_calibration`): the least noise at
    the outputs of all four ResNets, and over all eleven networks.
    """
    kept = statistics.counts > 0
    values, counts = statistics.centers[kept], statistics.counts[kept]
    top = 2**bits - 1

    def cost(low: float, high: float) -> float:
        scale = (high - low) / top
        if scale <= 0:
            return float("inf")
        zero = np.rint(-low / scale)
        error = (np.clip(np.rint(values / scale), -zero, top - zero) * scale - values) ** 2
        return float(counts @ error)

    return search(statistics, cost)
