"""What calibration remembers of a tensor, however many samples it sees: its extremes and a histogram that grows with them."""

from __future__ import annotations

import numpy as np

from compresskit.errors import InputError
from compresskit.quantization.grid import Grid
from compresskit.wording import shown

BINS = 4096
MOMENTUM = 0.1  # of a batch in the moving averages
_SMALLEST_REACH = 1e-30  # its bins have widths that float32 holds


class Statistics:
    """A summary of one tensor over all batches, in memory that does not depend on their number.

    The histogram's bins are of equal width over [-reach, reach], a bin edge at 0. A value beyond the reach doubles it, which merges bins in
    pairs, so that no value is ever binned anew. Exact zeros, half of what a ReLU puts out, are counted apart.

    Attributes:
        minimum, maximum: over everything seen, and 0.
        average_minimum, average_maximum: exponential moving averages of those of the batches.
        counts: (BINS,) values in each bin; zeros are in none.
        zeros: exact zeros seen.
        channel_means: (C,) averages along axis 1; None where there is no such axis, or its size changes.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.minimum = self.maximum = 0.0
        self.average_minimum = self.average_maximum = 0.0
        self.reach = 0.0
        self.counts = np.zeros(BINS, np.int64)
        self.zeros = 0
        self._batches = 0
        self._sums: np.ndarray | None = None
        self._summed = 0

    def update(self, values: np.ndarray) -> None:
        """Take in one batch.

        Raises:
            InputError: a value is not finite.
        """
        flat = np.asarray(values, np.float32).ravel()
        if not flat.size:
            return
        low, high = float(flat.min()), float(flat.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise InputError(f"tensor {shown(self.name)!r} is not finite on the calibration data: it cannot be quantized")
        low, high = min(low, 0.0), max(high, 0.0)
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        weight = MOMENTUM if self._batches else 1.0
        self.average_minimum += weight * (low - self.average_minimum)
        self.average_maximum += weight * (high - self.average_maximum)
        self._batches += 1
        self._bin(flat, max(-low, high))
        self._add_up(np.asarray(values))

    @property
    def total(self) -> int:
        """Values seen."""
        return self.zeros + int(self.counts.sum())

    @property
    def channel_means(self) -> np.ndarray | None:
        return None if self._sums is None else self._sums / self._summed

    @property
    def centers(self) -> np.ndarray:
        """(BINS,) the middle of each bin."""
        return (np.arange(BINS) + 0.5 - BINS / 2) * (2 * self.reach / BINS)

    def power(self) -> float:
        """The mean square of the values."""
        return float(self.counts @ self.centers**2) / max(self.total, 1)

    def noise(self, grid: Grid) -> float:
        """The mean square of what quantization to `grid` changes."""
        error = grid.round_trip(self.centers) - self.centers
        return float(self.counts @ error**2) / max(self.total, 1)

    def clipped(self, grid: Grid) -> float:
        """The fraction of values beyond the ends of `grid`."""
        ends = (np.array([grid.low, grid.high]) - grid.zero) * float(grid.scale)
        outside = (self.centers < ends[0]) | (self.centers > ends[1])
        return float(self.counts[outside].sum()) / max(self.total, 1)

    def _bin(self, flat: np.ndarray, reach: float) -> None:
        if reach > self.reach:
            self._grow(reach)
        nonzero = flat[flat != 0]
        self.zeros += flat.size - nonzero.size
        if nonzero.size:
            places = nonzero * (BINS / 2 / self.reach) + BINS / 2
            self.counts += np.bincount(np.clip(places.astype(np.int64), 0, BINS - 1), minlength=BINS)

    def _add_up(self, values: np.ndarray) -> None:
        first = self._batches == 1
        if values.ndim < 2 or not (first or (self._sums is not None and len(self._sums) == values.shape[1])):
            self._sums = None
            return
        sums = values.sum(axis=tuple(axis for axis in range(values.ndim) if axis != 1), dtype=np.float64)
        self._sums = sums if first else self._sums + sums
        self._summed += values.size // values.shape[1]

    def _grow(self, reach: float) -> None:
        """Double the reach until it covers `reach`; the first values set it."""
        if not self.reach:
            self.reach = max(reach, _SMALLEST_REACH)
            return
        while self.reach < reach:
            self.reach *= 2
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.pad(merged, BINS // 4)
