"""Samples of measured quantities: the range that they span, and what stands where there is none.

Pictures and sound have the range of their type. Scans, climate fields and arrays have their own, and may have holes: NaN, or
the value that the file declares to mean "missing". A hole is filled with the sample before it, which costs a codec least, and the
bytes that stood there are kept beside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.signal import Scale
from compresskit.errors import InputError

_LEVELS = 2**16


@dataclass(frozen=True)
class Samples:
    """Samples without holes.

    Attributes:
        values: (frames, *spatial, 1), in the machine's byte order.
        missing: (frames, *spatial) bool, True where a hole was filled; None where there was none.
        holes: what stood in the holes, little endian: one sample where all were alike, else every one in order.
        scale: the levels over the range of `values`.
        peak: that range; 1.0 for a constant.
    """

    values: NDArray[np.generic]
    missing: NDArray[np.bool_] | None
    holes: bytes
    scale: Scale
    peak: float


def without_holes(values: NDArray[np.generic], name: str, absent: NDArray[np.bool_] | None = None) -> Samples:
    """Fill the holes of `values` (frames, *spatial, 1), any byte order: every NaN, and the samples that are `absent`.

    Raises:
        InputError: `values` are empty, infinite, or so large that their range is.
    """
    if not values.size:
        raise InputError(f"{name}: holds no samples (shape {values.shape})")
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
    if absent is not None:
        missing |= absent
    holes = b""
    if missing.any():
        holes = _hole_bytes(values[missing])
        values = _filled(values, missing)
    scale, peak = _own_scale(values, name)
    return Samples(values, missing[..., 0] if holes else None, holes, scale, peak)


def with_holes(values: NDArray[np.generic], missing: NDArray[np.bool_] | None, holes: bytes) -> NDArray[np.generic]:
    """Undo `without_holes`.

    Raises:
        InputError: `holes` do not fit `missing`.
    """
    if missing is None:
        return values
    count, size = int(missing.sum()), values.dtype.itemsize
    if missing.shape != values.shape[:-1] or len(holes) not in (size, size * count):
        raise InputError("damaged metadata: missing samples and their values do not fit together")
    restored = values.copy()
    restored[missing] = np.frombuffer(holes, values.dtype.newbyteorder("<"))[:, None]
    return restored


def _hole_bytes(samples: NDArray[np.generic]) -> bytes:
    little = samples.astype(samples.dtype.newbyteorder("<"))
    bits = little.view(f"<u{little.itemsize}")  # NaN is equal to nothing, and has many bit patterns
    return little[:1].tobytes() if (bits == bits[0]).all() else little.tobytes()


def _filled(values: NDArray[np.generic], missing: NDArray[np.bool_]) -> NDArray[np.generic]:
    """Every hole takes the nearest sample before it in raster order; those in front of the first sample, that one."""
    flat, empty = values.reshape(-1), missing.reshape(-1)
    if empty.all():
        return np.zeros_like(values)
    first = int(np.argmin(empty))
    source = np.maximum.accumulate(np.where(empty, first, np.arange(flat.size)))
    return flat[source].reshape(values.shape)


def _own_scale(values: NDArray[np.generic], name: str) -> tuple[Scale, float]:
    """Integers whose range fits are their own levels; everything else has 65536 over its range."""
    low, high = values.min().item(), values.max().item()  # Python's: int64 has no room for its own range
    if isinstance(low, int) and high - low < _LEVELS:
        return Scale(float(low), 1.0, high - low + 1), float(high - low) or 1.0
    if not np.isfinite([low, high]).all():
        raise InputError(f"{name}: holds infinite samples; expected finite ones, or NaN where there is none")
    span = float(high - low)
    if not np.isfinite(span):
        raise InputError(f"{name}: its samples span {low:g} to {high:g}, more than a float can hold; scale them down")
    if not span:
        return Scale(low, 1.0, 1), 1.0
    return Scale(float(low), max(span / (_LEVELS - 1), float(np.finfo(np.float64).tiny)), _LEVELS), span
