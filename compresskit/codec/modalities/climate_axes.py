"""Coordinates in few bytes: most are regular, and the rest nearly so.

    values --(start, step)--> prediction --> difference of the bit patterns --> its differences --> zigzag --> byte planes

A regular axis has no differences at all, and one that rounding made irregular has differences of a few units in the last place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compresskit.errors import InputError

NUMERIC_KINDS = "biufMm"


@dataclass(frozen=True)
class PackedAxis:
    """What restores an array to the bit, given its type and shape.

    Attributes:
        start, step: of the regular axis that predicts the values; whole numbers unless the type is a float.
        differences: what to add to the prediction's bit patterns; b"" for nothing.
    """

    start: float
    step: float
    differences: bytes


def pack_axis(values: NDArray) -> PackedAxis:
    """Pack an array of any shape whose type is one of `NUMERIC_KINDS`, of up to 8 bytes."""
    flat = _plain(values)
    if not flat.size:
        return PackedAxis(0, 0, b"")
    packed = [PackedAxis(start, step, _differences(flat, start, step)) for start, step in _candidates(flat)]
    return min(packed, key=lambda axis: np.count_nonzero(np.frombuffer(axis.differences, np.uint8)))


def unpack_axis(packed: PackedAxis, dtype: np.dtype, shape: tuple[int, ...]) -> NDArray:
    """The array, in the byte order of `dtype`.

    Raises:
        InputError: the differences are not as many as the shape says.
    """
    plain = _plain_type(dtype)
    count = int(np.prod(shape, dtype=object))
    bits = _predicted(plain, count, packed.start, packed.step)
    if packed.differences:
        if len(packed.differences) != bits.nbytes:
            raise InputError("damaged metadata: a coordinate is not as long as it says")
        planes = np.frombuffer(packed.differences, np.uint8).reshape(bits.itemsize, count)
        zigzag = np.ascontiguousarray(planes.T).view(f"<u{bits.itemsize}").reshape(count).astype(bits.dtype)
        one = bits.dtype.type(1)
        bits = bits + np.cumsum((zigzag >> one) ^ (~(zigzag & one) + one), dtype=bits.dtype)
    return bits.view(plain).view(dtype.newbyteorder("=")).astype(dtype).reshape(shape)


def _plain_type(dtype: np.dtype) -> np.dtype:
    """The type to predict in: the machine's byte order, and integers for dates and truth values."""
    if dtype.kind in "Mm":
        return np.dtype(np.int64)
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")


def _plain(values: NDArray) -> NDArray:
    native = np.ascontiguousarray(values, values.dtype.newbyteorder("=")).reshape(-1)
    return native.view(_plain_type(values.dtype))


def _candidates(flat: NDArray) -> list[tuple[float, float]]:
    """Starts and steps worth a try: what rounding left of a short decimal number, that number, and the mean step."""
    first, last, gaps = flat[0], flat[-1], max(flat.size - 1, 1)
    second = flat[min(1, flat.size - 1)]
    if flat.dtype.kind != "f":
        return [(int(first), int(second) - int(first)), (int(first), (int(last) - int(first)) // gaps)]
    start = float(str(first))
    with np.errstate(all="ignore"):
        steps = [float(str(second - first)), (float(last) - float(first)) / gaps]
    return [(start, step) for step in steps if np.isfinite([start, step]).all()] or [(0.0, 0.0)]


def _predicted(dtype: np.dtype, count: int, start: float, step: float) -> NDArray[np.unsignedinteger]:
    """Bit patterns of start + n * step: in float64, rounded once; integers modulo their range."""
    unsigned = np.dtype(f"u{dtype.itemsize}")
    if dtype.kind == "f":
        with np.errstate(all="ignore"):
            return (np.float64(start) + np.float64(step) * np.arange(count)).astype(dtype).view(unsigned)
    modulus = 2 ** (8 * dtype.itemsize)
    first, gap = unsigned.type(int(start) % modulus), unsigned.type(int(step) % modulus)
    return np.asarray(first + gap * np.arange(count, dtype=np.uint64).astype(unsigned), unsigned)


def _differences(flat: NDArray, start: float, step: float) -> bytes:
    bits = flat.view(f"u{flat.itemsize}") - _predicted(flat.dtype, flat.size, start, step)
    if not bits.any():
        return b""
    changes = np.diff(bits, prepend=bits.dtype.type(0))
    signs = changes.view(f"i{bits.itemsize}") >> (8 * bits.itemsize - 1)
    zigzag = (changes << bits.dtype.type(1)) ^ signs.view(bits.dtype)
    return zigzag.astype(f"<u{bits.itemsize}").view(np.uint8).reshape(flat.size, -1).T.tobytes()
