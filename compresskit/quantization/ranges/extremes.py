"""Ranges from the extremes."""

from __future__ import annotations

from compresskit.quantization.ranges.base import METHODS, Range
from compresskit.quantization.statistics import Statistics


@METHODS.register("minmax")
def minmax(statistics: Statistics, bits: int) -> Range:
    """Everything that was seen: nothing is clipped."""
    return statistics.minimum, statistics.maximum


@METHODS.register("moving-average")
def moving_average(statistics: Statistics, bits: int) -> Range:
    """Averages of the batches' extremes (Jacob et al. 2018, section 3): a rare outlier counts little."""
    return statistics.average_minimum, statistics.average_maximum
