"""Arrays: NumPy's `.npy` with 1 to 4 dimensions.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.modalities.modality import MODALITIES, Modality
from compresskit.codec.modalities.parts import join_parts, split_parts
from compresskit.codec.modalities.reshaping import crop, cropped_holes, refined_holes
from compresskit.codec.modalities.samples import with_holes, without_holes
from compresskit.codec.signal import Signal
from compresskit.data.limits import Budget
from compresskit.data.npy import MAGIC, read_npy
from compresskit.errors import InputError, UsageError

# Of the one byte that says how an array was stored; its low two bits are the number of dimensions less one.
_FORTRAN, _BIG_ENDIAN = 4, 8


class Array(Modality):
    """(N) as (1, N, 1), (H, W) as (1, H, W, 1), (X, Y, Z) as (1, X, Y, Z, 1); of four axes the first counts frames: (T, X, Y, Z, 1)."""

    formats = ("npy",)

    def sniff(self, data: bytes, name: str) -> str | None:
        """By the magic string."""
        return "npy" if data.startswith(MAGIC) else None

    def read(self, data: bytes, format: str, *, name: str, variable: str | None, budget: Budget) -> Signal:
        """See `Modality.read`; nothing is ever unpickled."""
        if variable is not None:
            raise UsageError(f"{name}: an array has no variables to choose from; leave out {variable!r}")
        stored = read_npy(io.BytesIO(data), name, budget)
        if stored.dtype.kind not in "iuf" or stored.dtype.itemsize > 8:
            raise InputError(f"{name}: has dtype {stored.dtype}; expected integers or floats of 8 to 64 bits")
        if not 1 <= stored.ndim <= 4 or not stored.size:
            raise InputError(f"{name}: has shape {stored.shape}; expected 1 to 4 dimensions, none of them empty")
        samples = without_holes(stored.reshape(_signal_shape(stored.shape)), name)
        kept = join_parts(bytes([_flags(stored)]), samples.holes, _unusual_header(data[: len(data) - stored.nbytes], stored))
        return Signal(samples.values, "array", "npy", samples.scale, samples.peak, kept, samples.missing, name=name)

    def write(self, signal: Signal, format: str) -> bytes:
        """The file byte for byte where the samples are the original's."""
        stored_as, holes, header = split_parts(signal.metadata, 3)
        if len(stored_as) != 1:
            raise InputError(f"{signal.name}: damaged metadata: how the array was stored is missing")
        flags = stored_as[0]
        dimensions = (flags & 3) + 1
        shape = (1, *signal.values.shape[:-1])[-dimensions:]
        if _signal_shape(shape) != signal.values.shape:
            raise InputError(f"{signal.name}: damaged metadata: {dimensions} dimensions do not fit samples of shape {signal.values.shape}")
        values = with_holes(signal.values, signal.missing, holes).reshape(shape)
        dtype = values.dtype.newbyteorder(">" if flags & _BIG_ENDIAN else "<")
        fortran = bool(flags & _FORTRAN)
        return (header or _usual_header(shape, dtype, fortran)) + values.astype(dtype).tobytes("F" if fortran else "C")

    def cropped(self, signal: Signal, parts: Sequence[NDArray[np.int64]]) -> Signal:
        """See `Modality.cropped`."""
        stored_as, holes, _ = split_parts(signal.metadata, 3)
        return crop(signal, parts, join_parts(stored_as, cropped_holes(holes, signal, parts), b""))

    def refined(self, signal: Signal, scale: int) -> Signal:
        """See `Modality.refined`."""
        stored_as, holes, _ = split_parts(signal.metadata, 3)
        return replace(signal, metadata=join_parts(stored_as, refined_holes(holes, signal, scale), b""))


def _signal_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape, 1) if len(shape) == 4 else (1, *shape, 1)


def _flags(stored: NDArray[np.generic]) -> int:
    fortran = stored.flags.f_contiguous and not stored.flags.c_contiguous
    return (stored.ndim - 1) | _FORTRAN * fortran | _BIG_ENDIAN * (stored.dtype.str[0] == ">")


def _unusual_header(header: bytes, stored: NDArray[np.generic]) -> bytes:
    """A header that NumPy would not write today; b"" for the usual one, which follows from shape, type and order."""
    fortran = stored.flags.f_contiguous and not stored.flags.c_contiguous
    return b"" if header == _usual_header(stored.shape, stored.dtype, fortran) else header


def _usual_header(shape: tuple[int, ...], dtype: np.dtype, fortran: bool) -> bytes:
    """Version 1.0, spelled out here because NumPy's own padding has changed over time."""
    text = str({"descr": dtype.str, "fortran_order": fortran, "shape": shape})[:-1] + ", }"
    growth = 21 - len(str(shape[-1] if fortran else shape[0]))  # room for an array that is appended to
    length = ((10 + len(text) + growth + 1) // 64 + 1) * 64 - 10
    return MAGIC + b"\x01\x00" + length.to_bytes(2, "little") + text.ljust(length - 1).encode("latin1") + b"\n"


MODALITIES.register("array")(Array())
