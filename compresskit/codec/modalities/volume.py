"""Volumes: NIfTI-1 and NIfTI-2 in one file (`.nii`), plain or in gzip.

Header, extensions and what follows the samples are kept to the byte, because nibabel resets slope, intercept and more when it writes.
nibabel interprets the header; the samples are the stored ones, before slope and intercept.
Format: https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h and https://nifti.nimh.nih.gov/pub/dist/doc/nifti2.h
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.modalities.modality import MODALITIES, Modality
from compresskit.codec.modalities.parts import join_parts, split_parts
from compresskit.codec.modalities.reshaping import crop, cropped_holes, refined_holes
from compresskit.codec.modalities.samples import with_holes, without_holes
from compresskit.codec.modalities.volume_header import Placing, placed
from compresskit.codec.signal import Signal
from compresskit.data.files import GZIP_MAGIC, reading
from compresskit.data.limits import Budget
from compresskit.errors import InputError, UsageError
from compresskit.wording import first_line

_HEADER_BYTES = {1: 348, 2: 540}
_MAX_OFFSET = 2**24
_MAX_TRAILER = 2**20
_CHUNK = 2**20


@dataclass(frozen=True)
class _Layout:
    """Where the samples of a file are: (x, y, z, t) of them from byte `offset` on, x fastest, in the byte order of `dtype`."""

    shape: tuple[int, int, int, int]
    dtype: np.dtype
    offset: int

    @property
    def end(self) -> int:
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


class Volume(Modality):
    """Scans of 2 to 4 dimensions, as (time, x, y, z, 1)."""

    formats = ("nii", "nii.gz")

    def sniff(self, data: bytes, name: str) -> str | None:
        """By the magic string in the header, behind gzip or not."""
        if data.startswith(GZIP_MAGIC):
            return "nii.gz" if _version(_gzip_head(data)) else None
        return "nii" if _version(data) else None

    def read(self, data: bytes, format: str, *, name: str, variable: str | None, budget: Budget) -> Signal:
        """See `Modality.read`; whether it is packed is seen in the content."""
        if variable is not None:
            raise UsageError(f"{name}: a volume has no variables to choose from; leave out {variable!r}")
        packed = data.startswith(GZIP_MAGIC)
        with reading(name):
            stream = cast("IO[bytes]", gzip.GzipFile(fileobj=io.BytesIO(data))) if packed else io.BytesIO(data)
            layout, raw = _read_bounded(stream, name, budget)
        x, y, z, t = layout.shape
        stored = np.frombuffer(raw, layout.dtype, x * y * z * t, layout.offset).reshape(t, z, y, x)
        samples = without_holes(stored.transpose(0, 3, 2, 1)[..., None], name)
        metadata = join_parts(samples.holes, bytes(raw[: layout.offset] + raw[layout.end :]))
        packed_format = "nii.gz" if packed else "nii"
        return Signal(samples.values, "volume", packed_format, samples.scale, samples.peak, metadata, samples.missing, name=name)

    def write(self, signal: Signal, format: str) -> bytes:
        """The file byte for byte where the samples are the original's; the gzip around it has no time in it."""
        holes, kept = split_parts(signal.metadata, 2)
        layout = _layout(kept, signal.name)
        x, y, z, t = layout.shape
        if signal.values.shape != (t, x, y, z, 1) or signal.values.dtype != layout.dtype.newbyteorder("=") or len(kept) < layout.offset:
            raise InputError(f"{signal.name}: damaged metadata: the volume's header does not fit its samples")
        values = with_holes(signal.values, signal.missing, holes)[..., 0].transpose(0, 3, 2, 1)
        whole = kept[: layout.offset] + values.astype(layout.dtype).tobytes() + kept[layout.offset :]
        return gzip.compress(whole, mtime=0) if format == "nii.gz" else whole

    def cropped(self, signal: Signal, parts: Sequence[NDArray[np.int64]]) -> Signal:
        """See `Modality.cropped`: the voxels stay where they are in the scanner's space, and volumes in time."""
        holes, kept = split_parts(signal.metadata, 2)
        times, *axes = parts
        placing = Placing((*map(len, axes), len(times)), tuple(float(axis[0]) for axis in axes), frame=int(times[0]))
        return crop(signal, parts, join_parts(cropped_holes(holes, signal, parts), _replaced(kept, placing)))

    def refined(self, signal: Signal, scale: int) -> Signal:
        """See `Modality.refined`: voxels of a fraction of the edge, in the same part of space."""
        holes, kept = split_parts(signal.metadata, 2)
        frames, *size = signal.values.shape[:-1]
        # The first new voxel's centre lies by (1 - 1 / scale) / 2 of an old voxel before the first old one's.
        placing = Placing((*size, frames), ((1 / scale - 1) / 2,) * 3, scale)
        return replace(signal, metadata=join_parts(refined_holes(holes, signal, scale), _replaced(kept, placing)))


def _gzip_head(data: bytes) -> bytes:
    try:
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(data[: 2**16], _HEADER_BYTES[2])
    except zlib.error:
        return b""


def _version(head: bytes) -> int | None:
    """1 or 2 for a header of that version, be it of one file or of a pair; None for anything else."""
    if head[344:348] in (b"n+1\0", b"ni1\0"):
        return 1
    return 2 if head[4:8] in (b"n+2\0", b"ni2\0") else None


def _read_bounded(stream: IO[bytes], name: str, budget: Budget) -> tuple[_Layout, bytearray]:
    """The whole file, as long as it is as long as its header declares, and that is within the budget."""
    raw = bytearray(stream.read(_HEADER_BYTES[2]))
    layout = _layout(raw, name)
    budget.take(layout.end, name)
    limit = layout.end + _MAX_TRAILER
    while len(raw) <= limit and (chunk := stream.read(min(_CHUNK, limit + 1 - len(raw)))):
        raw += chunk
    if len(raw) < layout.end:
        raise InputError(f"{name}: truncated: {len(raw)} of {layout.end} bytes are there")
    if len(raw) > limit:
        raise InputError(f"{name}: over {_MAX_TRAILER} bytes follow the {layout.end} that its header declares; is the header damaged?")
    return layout, raw


def _layout(head: bytes | bytearray, name: str) -> _Layout:
    """What a header says.

    Raises:
        InputError: it is not NIfTI's in one file, damaged, or of samples that are no real numbers.
    """
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    version = _version(bytes(head[:348]))
    if version is None:
        raise InputError(f"{name}: is not a NIfTI file (.nii, .nii.gz)")
    size = _HEADER_BYTES[version]
    if b"ni" in (bytes(head[344:346]), bytes(head[4:6])):
        raise InputError(f"{name}: is one half of a pair .hdr and .img; convert it to one file (.nii)")
    try:
        header = (Nifti1Header if version == 1 else Nifti2Header)(bytes(head[:size]), check=False)
        shape, dtype, offset = header.get_data_shape(), header.get_data_dtype(), header.get_data_offset()
    except Exception as error:  # nibabel raises a dozen kinds for hostile fields
        raise InputError(f"{name}: damaged NIfTI header ({first_line(error)})") from error
    return _Layout(_four_dimensional(tuple(map(int, shape)), name), _checked_type(dtype, name), _checked_offset(offset, size, name))


def _replaced(kept: bytes, placing: Placing) -> bytes:
    """All bytes but the samples', with a header that places other voxels."""
    size = _HEADER_BYTES[_version(kept) or 1]
    return placed(kept[:size], placing) + kept[size:]


def _four_dimensional(shape: tuple[int, ...], name: str) -> tuple[int, int, int, int]:
    if len(shape) < 2 or min(shape) < 1 or math.prod(shape[4:]) > 1:
        raise InputError(f"{name}: has shape {shape}; expected a volume of 2 to 4 dimensions, none of them empty")
    x, y, z, t = (*shape, 1, 1)[:4]
    return x, y, z, t


def _checked_type(dtype: np.dtype, name: str) -> np.dtype:
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        kind = "colours" if dtype.names else str(dtype)
        raise InputError(f"{name}: its samples are {kind}; expected integers or floats of 8 to 64 bits")
    return dtype


def _checked_offset(offset: int, header: int, name: str) -> int:
    """The header is followed by four bytes that tell of extensions; an offset of 0 means right behind them."""
    offset = offset or header + 4
    if not header <= offset <= _MAX_OFFSET:
        raise InputError(f"{name}: damaged NIfTI header (samples start at byte {offset}; expected {header + 4} to {_MAX_OFFSET})")
    return offset


MODALITIES.register("volume")(Volume())
