"""The RIFF container around the samples of a WAV file: taken apart to be kept verbatim, and written anew where it was not kept.

"Multimedia Programming Interface and Data Specifications 1.0" (IBM and Microsoft, 1991), chapters 2 and 3; RF64: EBU Tech 3306.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compresskit.errors import InputError, UsageError

_PCM, _FLOAT = 1, 3
_STREAMED = 0x7FFF0000  # as many bytes, or more, are declared by programs that don't know how many will follow
_MAX_CHUNKS = 1000
_PREFIX = struct.Struct("<IQ")


@dataclass(frozen=True)
class Envelope:
    """The bytes of a file before and after its samples.

    Attributes:
        header: up to and with the head of the data chunk.
        length: of the samples between [bytes]; of no other number of samples would the header be true.
        trailer: what follows them.
    """

    header: bytes
    length: int
    trailer: bytes

    def pack(self) -> bytes:
        return _PREFIX.pack(len(self.header), self.length) + self.header + self.trailer

    @classmethod
    def unpack(cls, data: bytes) -> Envelope:
        """Undo `pack`.

        Raises:
            InputError: no `pack` made these bytes.
        """
        if len(data) < _PREFIX.size or len(data) < _PREFIX.size + _PREFIX.unpack_from(data)[0]:
            raise InputError("the sound's metadata is damaged: expected the header of a WAV file")
        size, length = _PREFIX.unpack_from(data)
        rest = data[_PREFIX.size :]
        return cls(rest[:size], length, rest[size:])

    @property
    def big_endian(self) -> bool:
        return self.header.startswith(b"RIFX")


def is_wav(data: bytes) -> bool:
    """Whether a file begins as a WAV file does."""
    return data[:4] in (b"RIFF", b"RIFX", b"RF64") and data[8:12] == b"WAVE"


def open_envelope(data: bytes, samples: NDArray[np.generic], bits: int, name: str) -> Envelope | None:
    """What surrounds `samples` of `bits` each in the file `data`; None where these are not its very bytes.

    Raises:
        InputError: the file ends before its data chunk does.
    """
    start = _data_start(data)
    if start is None:
        return None
    declared = int.from_bytes(data[start - 4 : start], "big" if data.startswith(b"RIFX") else "little")
    if start + declared > len(data) and declared < _STREAMED:
        raise InputError(f"{name}: is cut short, {len(data) - start} bytes of {declared} of its samples are there")
    raw = sample_bytes(samples, bits, big_endian=data.startswith(b"RIFX"))
    end = start + len(raw)
    return Envelope(data[:start], len(raw), data[end:]) if data[start:end] == raw else None


def new_envelope(rate: int, channels: int, bits: int, length: int, *, floating: bool) -> Envelope:
    """The smallest container: a format chunk, for floats a fact chunk, and `length` bytes of samples.

    Raises:
        UsageError: they are over 4 GiB.
    """
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", _FLOAT if floating else _PCM, channels, rate, min(rate * block, 2**32 - 1), block, bits)
    chunks = _chunk(b"fmt ", form + b"\0\0") + _chunk(b"fact", struct.pack("<I", length // block)) if floating else _chunk(b"fmt ", form)
    trailer = bytes(length % 2)
    size = 4 + len(chunks) + 8 + length + len(trailer)
    if size >= 2**32:
        raise UsageError("a wav file holds at most 4 GiB: encode the sound in shorter parts")
    header = b"RIFF" + struct.pack("<I", size) + b"WAVE" + chunks + b"data" + struct.pack("<I", length)
    return Envelope(header, length, trailer)


def sample_bytes(samples: NDArray[np.generic], bits: int, *, big_endian: bool = False) -> bytes:
    """Samples (..., channels) as they lie in the file: 8 bits with 128 for zero, 24 bits in three bytes."""
    if bits == 8:
        return (samples.view(np.uint8) ^ 0x80).tobytes()
    stored = np.ascontiguousarray(samples, samples.dtype.newbyteorder(">" if big_endian else "<"))
    if bits != 24:
        return stored.tobytes()
    octets = stored.reshape(-1).view(np.uint8).reshape(-1, 4)
    return octets[:, 1:].tobytes() if big_endian else octets[:, :3].tobytes()


def _data_start(data: bytes) -> int | None:
    """Where the samples begin, by the chunks' own lengths."""
    order = ">" if data.startswith(b"RIFX") else "<"
    at = 12
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            return None
        kind, size = struct.unpack_from(order + "4sI", data, at)
        if kind == b"data":
            return at + 8
        at += 8 + size + size % 2
    return None


def _chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body
