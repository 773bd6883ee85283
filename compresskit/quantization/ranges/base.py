"""The registry of calibration methods, and what they search over."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from compresskit.quantization.statistics import Statistics
from compresskit.registry import Registry

Range: TypeAlias = tuple[float, float]
Method: TypeAlias = Callable[[Statistics, int], Range]
"""Chooses the (low, high) that a number of bits is spread over; low <= 0 <= high."""

METHODS: Registry[Method] = Registry("calibration method")

FRACTIONS = np.linspace(0.02, 1.0, 99)
ROUNDS = 2


def search(statistics: Statistics, cost: Callable[[float, float], float]) -> Range:
    """The range of least `cost`: fractions of the extremes are tried for each end in turn, the other held."""
    low, high = statistics.minimum, statistics.maximum
    rounds = ROUNDS if statistics.minimum < 0 < statistics.maximum else 1
    for _ in range(rounds):
        if statistics.maximum > 0:
            high = min((float(f) * statistics.maximum for f in FRACTIONS), key=lambda end, low=low: (cost(low, end), -end))  # type: ignore[misc]
        if statistics.minimum < 0:
            low = min((float(f) * statistics.minimum for f in FRACTIONS), key=lambda end, high=high: (cost(end, high), end))  # type: ignore[misc]
    return low, high
