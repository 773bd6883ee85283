"""`--max-error` and `--lossless`: samples as integers on a grid, so that a coded residual makes good what the network missed.

samples --grid--> integers --less the decoded signal on the same grid--> residual
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.levels import bounds
from compresskit.codec.residual import decode_residual, encode_residual
from compresskit.codec.signal import Scale
from compresskit.errors import InputError

Samples = NDArray[np.generic]
_SAFE = 2**40  # what residuals can hold
_ROUNDINGS = 4  # of a float, between a sample and its restored value
_WIDEST = 2**61  # that integer samples, and steps of their grid, may be, so that sums of them are int64


@dataclass(frozen=True)
class Guard:
    """What decoding promises.

    Attributes:
        kind: "none", "max-error" or "lossless".
        tolerance: of "max-error", in the unit of the samples.
    """

    kind: str = "none"
    tolerance: float = 0.0


def encode_guard(guard: Guard, values: Samples, decoded: Samples, scale: Scale) -> bytes:
    """What the decoder needs beside `decoded` to find `values`, both (frames, *spatial, channels) of one dtype, within the tolerance.

    Raises:
        InputError: such samples cannot be guarded this closely.
    """
    if not fits(guard, values, scale):
        raise InputError(f"{values.dtype} samples cannot be kept this closely: choose a larger --max-error")
    return encode_residual(_integers(guard, values, scale), _integers(guard, decoded, scale))


def decode_guard(guard: Guard, data: bytes, decoded: Samples, scale: Scale) -> Samples:
    """The samples that `encode_guard` was given, within the tolerance.

    Raises:
        InputError: `data` is damaged, or says what no guard can promise.
    """
    if not (_orderable(decoded.dtype) if guard.kind == "lossless" else _possible(guard, decoded.dtype, scale)):
        promise = "exactly" if guard.kind == "lossless" else f"within {guard.tolerance:g}"
        raise InputError(f"damaged bitstream: {decoded.dtype} samples cannot be kept {promise}")
    integers = decode_residual(data, _integers(guard, decoded, scale))
    dtype = decoded.dtype
    if guard.kind == "lossless":
        return _from_ordered(integers, dtype) if dtype.kind == "f" else integers.astype(dtype)
    low, step = _grid(guard, dtype, scale)
    with np.errstate(over="ignore"):  # clipped right away
        samples = integers * step + low
    return np.clip(samples, *_limits(dtype)).astype(dtype)


def fits(guard: Guard, values: Samples, scale: Scale) -> bool:
    """Whether residuals can hold such samples. Where they cannot, only the samples' own bytes will do."""
    least, greatest = values.min().item(), values.max().item()
    if guard.kind == "lossless":
        return _orderable(values.dtype) and (values.dtype.itemsize <= 4 or (least > -_SAFE and greatest < _SAFE))
    if not _possible(guard, values.dtype, scale) or (values.dtype.kind != "f" and not -_WIDEST < least <= greatest < _WIDEST):
        return False
    low, step = _grid(guard, values.dtype, scale)
    return max(abs(greatest - low), abs(least - low)) / step < _SAFE


def _integers(guard: Guard, values: Samples, scale: Scale) -> NDArray[np.int64]:
    if guard.kind == "lossless":
        return _ordered(values) if values.dtype.kind == "f" else values.astype(np.int64)
    low, step = _grid(guard, values.dtype, scale)
    if values.dtype.kind != "f":
        return (values.astype(np.int64) - int(low) + int(step) // 2) // int(step)
    with np.errstate(over="ignore"):  # clipped right away; only a forged stream gets there
        integers = np.rint((values.astype(np.float64) - low) / step)
    return np.clip(integers, -_SAFE, _SAFE).astype(np.int64)


def _grid(guard: Guard, dtype: np.dtype, scale: Scale) -> tuple[float, float]:
    """Where the grid of "max-error" begins, and its step; not positive where the dtype itself rounds more coarsely than the tolerance."""
    if dtype.kind != "f":
        return math.floor(scale.low), 2 * min(math.floor(guard.tolerance), _WIDEST) + 1
    reach = max(abs(scale.low), abs(scale.low + scale.step * scale.levels))
    rounding = _ROUNDINGS * float(np.finfo(dtype).eps) * (reach + guard.tolerance)
    return scale.low, 2 * (guard.tolerance - rounding)


def _possible(guard: Guard, dtype: np.dtype, scale: Scale) -> bool:
    """Whether the grid of "max-error" is one."""
    low, step = _grid(guard, dtype, scale)
    return 0 < step < math.inf and (dtype.kind == "f" or abs(low) < _WIDEST)


def _limits(dtype: np.dtype) -> tuple[float, float]:
    """The least and greatest sample; of integers as integers, which floats would round."""
    if dtype.kind not in "iu":
        return bounds(dtype)
    return int(np.iinfo(dtype).min), min(int(np.iinfo(dtype).max), 2**63 - 1)


def _orderable(dtype: np.dtype) -> bool:
    """Whether a residual can tell all samples of `dtype` apart: those of 64-bit floats are too many."""
    return dtype.kind != "f" or dtype.itemsize <= 4


def _ordered(values: Samples) -> NDArray[np.int64]:
    """The bits of floats as integers in the order of the floats; -0.0 comes right before 0.0."""
    bits = 8 * values.dtype.itemsize
    signed = np.ascontiguousarray(values).view(f"i{values.dtype.itemsize}").astype(np.int64)
    return np.where(signed < 0, -1 - (signed + (1 << bits - 1)), signed)


def _from_ordered(ordered: NDArray[np.int64], dtype: np.dtype) -> Samples:
    bits = 8 * dtype.itemsize
    signed = np.where(ordered < 0, -1 - ordered - (1 << bits - 1), ordered)
    return signed.astype(f"i{dtype.itemsize}").view(dtype)
