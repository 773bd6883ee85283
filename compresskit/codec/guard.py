"""`--max-error` and `--lossless`: samples as integers on a grid, so that a coded residual makes good what the network missed.

samples --grid--> integers --less the decoded signal on the same grid--> residual
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.residual import decode_residual, encode_residual
from compresskit.codec.signal import Scale
from compresskit.errors import InputError

Samples = NDArray[np.generic]
_SAFE = 2**40  # what residuals can hold
_ROUNDINGS = 4  # of a float, between a sample and its restored value


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
        InputError: `data` is damaged.
    """
    integers = decode_residual(data, _integers(guard, decoded, scale))
    dtype = decoded.dtype
    if guard.kind == "lossless":
        return _from_ordered(integers, dtype) if dtype.kind == "f" else integers.astype(dtype)
    low, step = _grid(guard, dtype, scale)
    samples = integers * step + low
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype.str)
        samples = np.clip(samples, bounds.min, bounds.max)
    return samples.astype(dtype)


def fits(guard: Guard, values: Samples, scale: Scale) -> bool:
    """Whether residuals can hold such samples. Where they cannot, only the samples' own bytes will do."""
    if guard.kind == "lossless":
        return values.dtype.itemsize <= 4 or (values.dtype.kind in "iu" and int(values.min()) > -_SAFE and int(values.max()) < _SAFE)
    low, step = _grid(guard, values.dtype, scale)
    return step > 0 and max(abs(float(values.max()) - low), abs(float(values.min()) - low)) / step < _SAFE


def _integers(guard: Guard, values: Samples, scale: Scale) -> NDArray[np.int64]:
    if guard.kind == "lossless":
        return _ordered(values) if values.dtype.kind == "f" else values.astype(np.int64)
    low, step = _grid(guard, values.dtype, scale)
    if values.dtype.kind in "iu":
        return (values.astype(np.int64) - int(low) + int(step) // 2) // int(step)
    return np.rint((values.astype(np.float64) - low) / step).astype(np.int64)


def _grid(guard: Guard, dtype: np.dtype, scale: Scale) -> tuple[float, float]:
    """Where the grid of "max-error" begins, and its step; not positive where the dtype itself rounds more coarsely than the tolerance."""
    if dtype.kind in "iu":
        return math.floor(scale.low), 2 * math.floor(guard.tolerance) + 1
    reach = max(abs(scale.low), abs(scale.low + scale.step * scale.levels))
    rounding = _ROUNDINGS * float(np.finfo(dtype).eps) * (reach + guard.tolerance)
    return scale.low, 2 * (guard.tolerance - rounding)


def _ordered(values: Samples) -> NDArray[np.int64]:
    """The bits of floats as integers in the order of the floats; -0.0 comes right before 0.0."""
    bits = 8 * values.dtype.itemsize
    signed = np.ascontiguousarray(values).view(f"i{values.dtype.itemsize}").astype(np.int64)
    return np.where(signed < 0, -1 - (signed + (1 << bits - 1)), signed)


def _from_ordered(ordered: NDArray[np.int64], dtype: np.dtype) -> Samples:
    bits = 8 * dtype.itemsize
    signed = np.where(ordered < 0, -1 - ordered - (1 << bits - 1), ordered)
    return signed.astype(f"i{dtype.itemsize}").view(dtype)
