"""Uniform affine quantization: which real numbers the integers of a tensor stand for. Zero is always one of them.

    real = scale * (q - zero)        q = clip(round(real / scale) + zero, low, high)

Rounding is half to even in float32, as ONNX's QuantizeLinear does it (Jacob et al. 2018, section 2.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SMALLEST_SCALE = 2.0**-40
"""Steps are no finer: the product of two, the step of a bias, is then still a normal float32."""


@dataclass(frozen=True)
class Grid:
    """Integers and what they stand for.

    Attributes:
        scale: float32, (C,) along `axis`, or () for the whole tensor.
        zero: int32, likewise: the integer that stands for 0.
        low, high: the least and the greatest integer.
        axis: of the tensor, along which `scale` and `zero` run; None: one pair for all.
    """

    scale: np.ndarray
    zero: np.ndarray
    low: int
    high: int
    axis: int | None = None

    @property
    def bits(self) -> int:
        return (self.high - self.low).bit_length()

    def quantize(self, x: np.ndarray) -> np.ndarray:
        """The integers (int32) nearest to `x`, clipped to `low` and `high`."""
        scaled = np.rint(np.asarray(x, np.float32) / self._spread(self.scale, np.ndim(x)))
        shifted = scaled + self._spread(self.zero, np.ndim(x)).astype(np.float32)
        return np.clip(shifted, self.low, self.high).astype(np.int32)

    def dequantize(self, q: np.ndarray) -> np.ndarray:
        """The float32 numbers that integers stand for."""
        return (q - self._spread(self.zero, np.ndim(q))).astype(np.float32) * self._spread(self.scale, np.ndim(q))

    def round_trip(self, x: np.ndarray) -> np.ndarray:
        """`x` as it is after quantization."""
        return self.dequantize(self.quantize(x))

    def _spread(self, values: np.ndarray, rank: int) -> np.ndarray:
        if self.axis is None:
            return values
        shape = [1] * rank
        shape[self.axis] = -1
        return values.reshape(shape)


def asymmetric(low: float, high: float, bits: int) -> Grid:
    """Unsigned integers over the range from `low` to `high`, widened where it does not hold 0. For activations.

    A range of no width (a tensor that was always 0) gives steps that reach to 1.
    """
    low, high, top = min(low, 0.0), max(high, 0.0), 2**bits - 1
    scale = max((high - low) / top if high > low else 1.0 / top, SMALLEST_SCALE)
    zero = int(np.clip(np.rint(-low / scale), 0, top))
    return Grid(np.array(scale, np.float32), np.array(zero, np.int32), 0, top)


def symmetric(weight: np.ndarray, bits: int, *, axis: int | None = None, least: np.ndarray | float = 0.0) -> Grid:
    """Signed integers from `-(2^(bits-1) - 1)` to `2^(bits-1) - 1` with zero in the middle, a scale a slice along `axis`. For weights.

    Args:
        weight: the numbers to cover.
        least: scales are at least this, an entry a slice: what a bias needs to fit 32 bits.
    """
    top = 2 ** (bits - 1) - 1
    axes = tuple(a for a in range(weight.ndim) if a != axis) if axis is not None else None
    largest = np.abs(weight).max(axis=axes, initial=0.0)
    scale = np.maximum(np.where(largest > 0, largest / top, 1.0 / top), np.maximum(least, SMALLEST_SCALE)).astype(np.float32)
    return Grid(scale, np.zeros(scale.shape, np.int32), -top, top, axis)
