"""Sines in integers: no mathematical library, whose last bits differ between machines, has a say."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

ACTIVATION_BITS = 14
"""Coordinates and sines are integers in units of 2**-14."""
PHASE_BITS = 14
"""A turn has 2**14 phases."""
SINE_BITS = 64
"""`sine` computes in units of 2**-64."""

_TWO_PI = 0x6487ED5110B4611A6  # 2 pi * 2**SINE_BITS


def sine(phase: int, bits: int) -> int:
    """The sine of `phase` / 2**`bits` turns in units of 2**-SINE_BITS, right to about ten of them, by its Taylor series."""
    half = 1 << bits - 1
    phase = (phase + half) % (2 * half) - half
    if 2 * abs(phase) > half:
        # The other half of the circle mirrors the quarters in which the series converges fast.
        phase = (half if phase > 0 else -half) - phase
    angle = phase * _TWO_PI >> bits
    square = angle * angle >> SINE_BITS
    total, term, order = 0, angle, 1
    while term:
        total += term
        order += 2
        term = -(term * square >> SINE_BITS) // (order * (order - 1))
    return total


@lru_cache(maxsize=1)
def sine_table() -> NDArray[np.int64]:
    """The sine of every phase, (2**PHASE_BITS,), rounded to units of 2**-ACTIVATION_BITS; read-only."""
    drop = SINE_BITS - ACTIVATION_BITS
    table = np.array([sine(phase, PHASE_BITS) + (1 << drop - 1) >> drop for phase in range(2**PHASE_BITS)], dtype=np.int64)
    table.flags.writeable = False
    return table
