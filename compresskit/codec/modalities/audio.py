"""Sound: WAV, FLAC and Ogg, of any rate, one to eight channels, integers of 8 to 32 bits or floats.

Integers are kept as they are stored, around zero; a 24-bit sample is in the range of 24 bits. What was coded with losses (Vorbis, Opus, mu-law and
others) is sound of 16 bits. The container of a WAV file is kept byte for byte, tags of FLAC and Ogg files are not.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.modalities.modality import MODALITIES, Modality
from compresskit.codec.modalities.reshaping import crop
from compresskit.codec.modalities.wav import Envelope, is_wav, new_envelope, open_envelope, sample_bytes
from compresskit.codec.signal import Scale, Signal
from compresskit.data.limits import Budget
from compresskit.errors import CompresskitError, InputError, UsageError
from compresskit.wording import first_line

_MAX_CHANNELS = 8
_MAX_LEVELS = 2**16
_MAX_RATE = 2**32 - 1
_BLOCK = 2**16  # frames read at once: what a header says of their number is not believed
_PREFIX = struct.Struct("<BI")


@dataclass(frozen=True)
class Subtype:
    """How a sample is stored.

    Attributes:
        bits: of a sample in a file.
        dtype: of a sample in a signal.
    """

    bits: int
    dtype: str

    @property
    def floating(self) -> bool:
        return self.dtype.startswith("f")


_SUBTYPES = {  # in libsndfile's words; their order is part of the metadata
    "PCM_16": Subtype(16, "i2"),
    "PCM_U8": Subtype(8, "i1"),
    "PCM_S8": Subtype(8, "i1"),
    "PCM_24": Subtype(24, "i4"),
    "PCM_32": Subtype(32, "i4"),
    "FLOAT": Subtype(32, "f4"),
    "DOUBLE": Subtype(64, "f8"),
}
_LOSSY = "PCM_16"  # what is made of samples that were coded with losses
_FLAC_SUBTYPES = {8: "PCM_S8", 16: "PCM_16", 24: "PCM_24"}


@dataclass(frozen=True)
class AudioMetadata:
    """What a sound's file holds beside its samples.

    Attributes:
        subtype: a key of `_SUBTYPES`.
        rate: frames a second.
        envelope: of a WAV file that is not the plainest possible.
    """

    subtype: str
    rate: int
    envelope: Envelope | None = None

    def pack(self) -> bytes:
        """Five bytes, and the envelope."""
        return _PREFIX.pack(list(_SUBTYPES).index(self.subtype), self.rate) + (self.envelope.pack() if self.envelope else b"")

    @classmethod
    def unpack(cls, data: bytes) -> AudioMetadata:
        """Undo `pack`.

        Raises:
            InputError: no `pack` made these bytes.
        """
        if len(data) < _PREFIX.size or data[0] >= len(_SUBTYPES):
            raise InputError("the sound's metadata is damaged: expected a kind of sample and a rate")
        index, rate = _PREFIX.unpack_from(data)
        rest = data[_PREFIX.size :]
        return cls(list(_SUBTYPES)[index], rate, Envelope.unpack(rest) if rest else None)


class AudioFiles(Modality):
    """Sound, through libsndfile: one frame of (samples, channels)."""

    formats = ("wav", "flac", "ogg")

    def sniff(self, data: bytes, name: str) -> str | None:
        """By the first bytes."""
        if is_wav(data):
            return "wav"
        return {b"fLaC": "flac", b"OggS": "ogg"}.get(data[:4])

    def read(self, data: bytes, format: str, *, name: str, variable: str | None, budget: Budget) -> Signal:
        """See `Modality.read`."""
        if variable is not None:
            raise UsageError(f"{name}: a sound has no variables to choose from; leave out {variable!r}")
        import soundfile

        try:
            with soundfile.SoundFile(io.BytesIO(data)) as file:
                samples, subtype = _samples(file, name, budget)
                rate = file.samplerate
        except CompresskitError:
            raise
        except Exception as error:  # libsndfile's own, and what the wrapper raises over sizes it cannot take
            raise InputError(f"{name}: not a readable sound file ({_reason(error)})") from error
        kind = _SUBTYPES[subtype]
        envelope = open_envelope(data, samples, kind.bits, name) if format == "wav" else None
        if envelope and envelope == new_envelope(rate, samples.shape[1], kind.bits, envelope.length, floating=kind.floating):
            envelope = None
        scale, peak = _range(samples, kind, name)
        return Signal(samples[np.newaxis], "audio", format, scale, peak, AudioMetadata(subtype, rate, envelope).pack(), name=name)

    def write(self, signal: Signal, format: str) -> bytes:
        """See `Modality.write`; a WAV file as it was, where it still has as many samples."""
        metadata = AudioMetadata.unpack(signal.metadata)
        kind, samples = _SUBTYPES[metadata.subtype], signal.values[0]
        if samples.dtype != kind.dtype or not 1 <= samples.shape[1] <= _MAX_CHANNELS:
            raise InputError(f"the sound's metadata is damaged: {metadata.subtype} does not go with {samples.dtype} samples of shape {samples.shape}")
        if format == "flac":
            return _flac(samples, kind, metadata.rate)
        if format == "wav":
            return _wav(samples, kind, metadata)
        raise UsageError(f"{format} would change the samples: choose from wav, flac")

    def default_output(self, format: str) -> str:
        """A lossless format for a lossy one."""
        return "wav" if format == "ogg" else format

    def rate(self, metadata: bytes) -> float | None:
        """Frames a second."""
        return float(AudioMetadata.unpack(metadata).rate)

    def dimensions(self, spatial: int) -> tuple[str, ...]:
        """A sound's one axis is time."""
        return ("frame", "t")

    def cropped(self, signal: Signal, parts: Sequence[NDArray[np.int64]]) -> Signal:
        """See `Modality.cropped`."""
        return crop(signal, parts, signal.metadata)

    def refined(self, signal: Signal, scale: int) -> Signal:
        """See `Modality.refined`: as many times more frames a second."""
        metadata = AudioMetadata.unpack(signal.metadata)
        rate = metadata.rate * scale
        if rate > _MAX_RATE:
            raise UsageError(f"--scale {scale}: no file holds sound of {rate} Hz; choose a smaller factor")
        return replace(signal, metadata=AudioMetadata(metadata.subtype, rate).pack())


def _samples(file: Any, name: str, budget: Budget) -> tuple[NDArray[np.generic], str]:
    """(frames, channels) samples of an opened `soundfile.SoundFile`, in the dtype of their subtype, and this.

    Raises:
        InputError: too many channels, over the limit, or the file is cut short.
    """
    if file.channels > _MAX_CHANNELS:
        raise InputError(f"{name}: has {file.channels} channels; expected 1 to {_MAX_CHANNELS}")
    subtype = file.subtype if file.subtype in _SUBTYPES else _LOSSY
    kind, lossy = _SUBTYPES[subtype], file.subtype not in _SUBTYPES
    blocks: list[NDArray[np.generic]] = [np.empty((0, file.channels), kind.dtype)]
    for start in range(0, file.frames, _BLOCK):
        count = min(_BLOCK, file.frames - start)
        budget.take(count * file.channels * np.dtype(kind.dtype).itemsize, name)
        blocks.append(_block(file, count, kind, lossy=lossy))
        if len(blocks[-1]) < count:
            raise InputError(f"{name}: is cut short, {start + len(blocks[-1])} of {file.frames} samples are there")
    return np.concatenate(blocks), subtype


def _block(file: Any, count: int, kind: Subtype, *, lossy: bool) -> NDArray[np.generic]:
    """The next `count` frames (count, channels), or as many as there are."""
    if lossy:
        real = file.read(count, dtype="float32", always_2d=True)
        return np.clip(np.rint(real * 2.0**15), -(2**15), 2**15 - 1).astype(kind.dtype)
    wide = "int16" if kind.bits <= 16 else "int32"
    samples = file.read(count, dtype=np.dtype(kind.dtype).name if kind.floating else wide, always_2d=True)
    return samples if kind.floating else (samples >> _padding(kind)).astype(kind.dtype)


def _padding(kind: Subtype) -> int:
    """By how many bits libsndfile shifts a stored integer up, to fill 16 or 32."""
    return (16 if kind.bits <= 16 else 32) - kind.bits


def _range(samples: NDArray[np.generic], kind: Subtype, name: str) -> tuple[Scale, float]:
    """Levels and peak: the full range of the type, for floats -1 to 1 or as far as they go beyond.

    Raises:
        InputError: a sample is NaN or infinite.
    """
    if not kind.floating:
        levels = min(2**kind.bits, _MAX_LEVELS)
        return Scale(-(2 ** (kind.bits - 1)), 2**kind.bits // levels, levels), 2**kind.bits - 1
    top = float(np.abs(samples).max(initial=1.0))
    if not np.isfinite(top):
        raise InputError(f"{name}: has samples that are NaN or infinite; expected numbers")
    return Scale(-top, top * (2 / (_MAX_LEVELS - 1)), _MAX_LEVELS), 2.0


def _wav(samples: NDArray[np.generic], kind: Subtype, metadata: AudioMetadata) -> bytes:
    """The file as it was where the samples still fill its container, else a plain one."""
    kept = metadata.envelope
    raw = sample_bytes(samples, kind.bits, big_endian=kept is not None and kept.big_endian)
    if kept is not None and kept.length == len(raw):
        return kept.header + raw + kept.trailer
    plain = new_envelope(metadata.rate, samples.shape[1], kind.bits, len(raw), floating=kind.floating)
    return plain.header + sample_bytes(samples, kind.bits) + plain.trailer


def _flac(samples: NDArray[np.generic], kind: Subtype, rate: int) -> bytes:
    import soundfile

    if kind.floating or kind.bits not in _FLAC_SUBTYPES:
        raise UsageError(f"flac has no {kind.bits}-bit {'floats' if kind.floating else 'integers'}: choose wav")
    wide = np.left_shift(samples.astype(np.int16 if kind.bits <= 16 else np.int32), _padding(kind))
    stream = io.BytesIO()
    try:
        soundfile.write(stream, wide, rate, format="FLAC", subtype=_FLAC_SUBTYPES[kind.bits])
    except Exception as error:
        raise InputError(f"the sound cannot be written as flac at {rate} Hz ({_reason(error)})") from error
    return stream.getvalue()


def _reason(error: Exception) -> str:
    """What libsndfile says, without the address of our buffer that its wrapper puts first."""
    return str(getattr(error, "error_string", "")) or first_line(error)


MODALITIES.register("audio")(AudioFiles())
