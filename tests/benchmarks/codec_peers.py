"""Other codecs, each as a `Peer` that turns a signal into files and back: imagecodecs for pictures and grids, libsndfile for sound, zlib for all.

What a peer cannot know from its files (shape, type, the smallest sample where it takes no negative ones) is given to it for nothing. Grids that
are coded slice by slice are as many files, and only those are counted. Every peer runs on one thread.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import imagecodecs
import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import correlate

from compresskit.codec.modalities.audio import AudioMetadata
from compresskit.codec.signal import Signal

Array = NDArray[Any]

JPEG = (5, 10, 20, 35, 50, 70, 85, 95)
JPEG2000 = (22, 24, 26, 28, 30, 33, 36, 40, 45)  # PSNR [dB] to aim at
JPEGXL = (15.0, 10.0, 6.0, 4.0, 2.5, 1.5, 1.0, 0.5)  # Butteraugli distance
AVIF = (5, 15, 25, 40, 55, 70, 85)
SZ3_ERRORS = (0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005)  # of the data's range
ZFP_ERRORS = (12.0, 6.0, 3.0, 1.5, 0.6, 0.2, 0.05)  # likewise; it stays far within what it is asked for
SPERR_PSNR = (10, 15, 20, 25, 30, 35, 40, 45)  # likewise
# libsndfile maps these to bit rates: from 170 down to 8 kbps for MP3 at 16 kHz, and from 256 down to 6 for Opus.
MP3_LEVELS = (0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99)
OPUS_LEVELS = (0.6, 0.8, 0.85, 0.9, 0.94, 0.97, 0.99)


@dataclass(frozen=True)
class Peer:
    """One codec at one setting.

    Attributes:
        guarantee: "none", "max-error" or "lossless".
        encode: a signal to files.
        decode: the files to samples; the signal gives shape and type.
        size: bytes that count; other than those of the files only where a peer has none of its own.
    """

    codec: str
    setting: str
    encode: Callable[[Signal], list[bytes]]
    decode: Callable[[list[bytes], Signal], Array]
    guarantee: str = "none"
    size: Callable[[list[bytes], Signal], int] = lambda files, signal: sum(map(len, files))


def picture_peers() -> Iterator[Peer]:
    """JPEG, JPEG2000 with its colour transform, JPEG XL and AVIF."""
    for level in JPEG:
        yield _sliced("JPEG", f"quality {level}", partial(imagecodecs.jpeg8_encode, level=level, optimize=True), imagecodecs.jpeg8_decode)
    yield from slice_peers()
    for distance in JPEGXL:
        encode = partial(imagecodecs.jpegxl_encode, distance=distance, effort=7, usecontainer=False, numthreads=1)
        yield _sliced("JPEG XL", f"distance {distance:g}", encode, imagecodecs.jpegxl_decode)
    for level in AVIF:
        encode = partial(imagecodecs.avif_encode, level=level, speed=4, numthreads=1)
        yield _sliced("AVIF", f"quality {level}", encode, imagecodecs.avif_decode)


def slice_peers(psnr: Sequence[int] = JPEG2000) -> Iterator[Peer]:
    """JPEG2000: of a volume each slice across the last axis, of a climate series each time step at 16 bits."""
    for level in psnr:
        yield _sliced("JPEG2000", f"{level} dB", partial(_jpeg2000, level=level), imagecodecs.jpeg2k_decode)


def grid_peers() -> Iterator[Peer]:
    """ZFP, SZ3 and SPERR on the samples as single-precision floats; a climate series is one grid of three axes."""
    for share in SZ3_ERRORS:
        yield _gridded("SZ3", f"error {share:g} of range", lambda grid, peak, share=share: _sz3(grid, share * peak), _un_sz3)
    for share in ZFP_ERRORS:
        yield _gridded("ZFP", f"error {share:g} of range", lambda grid, peak, share=share: _zfp(grid, share * peak), _un_zfp)
    for psnr in SPERR_PSNR:
        encode = partial(imagecodecs.sperr_encode, level=float(psnr), mode="psnr", numthreads=1)
        yield _gridded("SPERR", f"{psnr} dB", lambda grid, peak, encode=encode: encode(grid), lambda data, grid: imagecodecs.sperr_decode(data))


def sound_peers() -> Iterator[Peer]:
    """MP3 at constant rates and Opus, through libsndfile."""
    for codec, subtype, levels in (("MP3", "MPEG_LAYER_III", MP3_LEVELS), ("OGG", "OPUS", OPUS_LEVELS)):
        extra = {"bitrate_mode": "CONSTANT"} if codec == "MP3" else {}
        for level in levels:
            encode = partial(_sound, format=codec, subtype=subtype, compression_level=level, **extra)
            yield Peer("MP3" if codec == "MP3" else "Opus", f"level {level:g}", encode, _aligned)


def lossless_peers(modality: str) -> Iterator[Peer]:
    """Deflate of the raw samples everywhere, and what is made for each kind of data."""
    yield Peer("deflate", "lossless", _deflate, _inflate, "lossless")
    if modality == "audio":
        yield Peer("FLAC", "lossless", partial(_sound, format="FLAC", subtype="PCM_16", compression_level=1.0), _aligned, "lossless")
        return
    if modality == "climate":
        zfp = partial(imagecodecs.zfp_encode, mode="reversible", numthreads=1)
        yield _gridded("ZFP", "lossless", lambda grid, peak: zfp(grid), _un_zfp, "lossless")
        return
    yield _sliced("PNG", "lossless", partial(imagecodecs.png_encode, level=9), imagecodecs.png_decode, "lossless")
    yield _sliced("JPEG-LS", "lossless", _jpeg_ls, imagecodecs.jpegls_decode, "lossless")
    encode = partial(imagecodecs.jpegxl_encode, lossless=True, effort=7, usecontainer=False, numthreads=1)
    yield _sliced("JPEG XL", "lossless", encode, imagecodecs.jpegxl_decode, "lossless")
    encode = partial(imagecodecs.jpeg2k_encode, level=0, reversible=True, codecformat="j2k", numthreads=1)
    yield _sliced("JPEG2000", "lossless", encode, imagecodecs.jpeg2k_decode, "lossless")


def bounded_peers(modality: str, tolerance: float) -> Iterator[Peer]:
    """Codecs that keep every sample within `tolerance`; ZFP, which overfulfils it, at the largest of its own that does."""
    setting = f"{tolerance:g}"
    yield _gridded("SZ3", setting, lambda grid, peak: _sz3(grid, _slack(grid, tolerance)), _un_sz3, "max-error")
    yield _gridded("ZFP", setting, lambda grid, peak: _loosest_zfp(grid, _slack(grid, tolerance)), _un_zfp, "max-error")
    if modality in ("image", "volume"):
        yield _sliced("JPEG-LS", setting, partial(_jpeg_ls, level=int(tolerance)), imagecodecs.jpegls_decode, "max-error")
    if modality in ("volume", "climate"):
        encode = partial(imagecodecs.sperr_encode, mode="pwe", numthreads=1)
        yield _gridded(
            "SPERR",
            setting,
            lambda grid, peak: encode(grid, level=_slack(grid, tolerance)),
            lambda data, grid: imagecodecs.sperr_decode(data),
            "max-error",
        )


def _sliced(codec: str, setting: str, encode: Callable[[Array], bytes], decode: Callable[[bytes], Array], guarantee: str = "none") -> Peer:
    """A codec of pictures: (rows, columns) or with colours behind them, unsigned."""

    def files(signal: Signal) -> list[bytes]:
        return [bytes(encode(np.ascontiguousarray(plane))) for plane in _planes(_unsigned(signal)[0])]

    def samples(data: list[bytes], signal: Signal) -> Array:
        levels, low, step = _unsigned(signal)
        decoded = np.empty(levels.shape, np.float64)
        for plane, part in zip(_planes(decoded), data, strict=True):
            plane[...] = decode(part)
        return _as_type(decoded * step + low, signal)

    return Peer(codec, setting, files, samples, guarantee)


def _unsigned(signal: Signal) -> tuple[Array, float, float]:
    """Samples as integers from 0, of 8 bits where they fit and else of 16; the sample that 0 stands for, and the step between two."""
    values = signal.values
    if values.dtype == np.uint8:
        return values, 0.0, 1.0
    low, span = float(values.min()), float(np.ptp(values.astype(np.float64)))
    step = 1.0 if values.dtype.kind in "iu" and span < 2**16 else max(span, 1e-30) / (2**16 - 1)
    return np.rint((values.astype(np.float64) - low) / step).astype(np.uint16), low, step


def _planes(values: Array) -> Iterator[Array]:
    """Views (rows, columns) or (rows, columns, 3) of samples (frames, *spatial, channels)."""
    for frame in values:
        pictures = np.moveaxis(frame, 2, 0) if frame.ndim == 4 else frame[np.newaxis]
        for picture in pictures:
            yield picture if picture.shape[-1] > 1 else picture[..., 0]


def _jpeg2000(plane: Array, level: int) -> bytes:
    bits = max(int(plane.max()).bit_length(), 8)  # the PSNR to aim at is over the range of these
    return imagecodecs.jpeg2k_encode(plane, level=level, codecformat="j2k", reversible=False, bitspersample=bits, numthreads=1)


def _jpeg_ls(plane: Array, level: int = 0) -> bytes:
    return imagecodecs.jpegls_encode(plane, level=level, out=2 * plane.nbytes + 4096)


def _gridded(
    codec: str, setting: str, encode: Callable[[Array, float], bytes], decode: Callable[[bytes, Array], Array], guarantee: str = "none"
) -> Peer:
    """A codec of floats on grids of up to three axes; it gets the grid and the range that PSNR refers to."""

    def files(signal: Signal) -> list[bytes]:
        return [bytes(encode(np.ascontiguousarray(grid, np.float32), signal.peak)) for grid in _grids(signal.values)]

    def samples(data: list[bytes], signal: Signal) -> Array:
        decoded = np.empty(signal.values.shape, np.float64)
        for grid, part in zip(_grids(decoded), data, strict=True):
            grid[...] = decode(part, grid)
        return _as_type(decoded, signal)

    return Peer(codec, setting, files, samples, guarantee)


def _grids(values: Array) -> list[Array]:
    """Views of up to three axes: (time, rows, columns) of maps, (x, y, z) of each frame of a scan, (samples) of each channel of a sound."""
    channels = [values[..., channel] for channel in range(values.shape[-1])]
    if values.ndim == 4:
        return [channel[0] if len(channel) == 1 else channel for channel in channels]
    return [frame for channel in channels for frame in channel]


def _slack(grid: Array, tolerance: float) -> float:
    """Integers are rounded after decoding, so that almost half a step more is still within the tolerance."""
    integer = np.array_equal(grid, np.rint(grid))
    return tolerance + 0.49 if integer else tolerance * (1 - 1e-4)


def _zfp(grid: Array, error: float) -> bytes:
    return imagecodecs.zfp_encode(grid, level=error, mode="accuracy", numthreads=1)


def _un_zfp(data: bytes, grid: Array) -> Array:
    return imagecodecs.zfp_decode(data)


def _loosest_zfp(grid: Array, error: float) -> bytes:
    coded = [_zfp(grid, error * factor) for factor in (8, 4, 2, 1)]
    return next(data for data in coded if np.abs(imagecodecs.zfp_decode(data) - grid).max() <= error)


def _sz3(grid: Array, error: float) -> bytes:
    return imagecodecs.sz3_encode(grid, mode="abs", abs=error)


def _un_sz3(data: bytes, grid: Array) -> Array:
    return imagecodecs.sz3_decode(data, grid.shape, np.float32)


def _as_type(samples: Array, signal: Signal) -> Array:
    """Rounded and held within the range, where the samples are integers."""
    dtype = signal.values.dtype
    if dtype.kind == "f":
        return samples.astype(dtype)
    limits = np.iinfo(dtype)
    return np.rint(samples).clip(limits.min, limits.max).astype(dtype)


def _sound(signal: Signal, **options: Any) -> list[bytes]:
    stream = io.BytesIO()
    soundfile.write(stream, signal.values[0], AudioMetadata.unpack(signal.metadata).rate, **options)
    return [stream.getvalue()]


def _aligned(files: list[bytes], signal: Signal) -> Array:
    """The samples of a sound file, moved to where they correlate best with the original: MP3 at low rates comes with a delay."""
    wanted = signal.values
    decoded = soundfile.read(io.BytesIO(files[0]), dtype=str(wanted.dtype), always_2d=True)[0]
    missing = wanted.shape[1] - len(decoded)
    if missing < 0:
        found = correlate(decoded[:, 0].astype(np.float64), wanted[0, :, 0].astype(np.float64), mode="valid", method="fft")
        decoded = decoded[int(found.argmax()) :][: wanted.shape[1]]
    return np.pad(decoded, ((0, max(missing, 0)), (0, 0)))[np.newaxis]


def _deflate(signal: Signal) -> list[bytes]:
    return [zlib.compress(np.ascontiguousarray(signal.values).tobytes(), 9)]


def _inflate(files: list[bytes], signal: Signal) -> Array:
    return np.frombuffer(zlib.decompress(files[0]), signal.values.dtype).reshape(signal.values.shape)
