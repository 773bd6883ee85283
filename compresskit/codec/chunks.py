"""Patch codes as bytes, and back: a chunk is which patches are of one colour, and these colours; then the latents of the others.

Latents are predicted (latentcode.py); or, under the base networks of earlier releases, symbols: as columns under tables, or in contexts. They may
be progressive, so that any beginning of the chunk tells all patches coarsely.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.entropy import begun_columns, decode_columns, encode_columns
from compresskit.codec.latentcode import LatentCode
from compresskit.codec.latentprior import LatentPrior
from compresskit.codec.latentscan import LAYERED, Known
from compresskit.codec.neighbours import Places
from compresskit.codec.patchcode import Integers, PatchCodes
from compresskit.codec.prior import begun_latents, decode_latents, encode_latents, typical_magnitudes
from compresskit.codec.quantize import UniformQuantizer
from compresskit.codec.varint import Cursor, CutOffError, pack_varint
from compresskit.errors import InputError

_PLAIN, _WITH_CONSTANTS = 0, 1
_IN_CONTEXTS, _PROGRESSIVE, _PREDICTED = 2, 3, 4  # as the first byte of latents, beside those of columns


@dataclass(frozen=True, eq=False)
class SymbolCode:
    """How latents are coded as symbols.

    Attributes:
        quantizer: from symbols to latents.
        tables: (L, 2**bits) frequencies.
        contexts: whether they may be in contexts, rather than under the tables.
        progressive: whether they are in contexts, all patches' coarse ones first.
    """

    quantizer: UniformQuantizer
    tables: NDArray[np.uint32]
    contexts: bool = False
    progressive: bool = False

    @property
    def limit(self) -> int:
        """Half the number of symbols."""
        return self.tables.shape[1] // 2

    def latents(self, values: Integers) -> NDArray[np.int32]:
        """Latents (P, L) of symbols less the middle one."""
        return self.quantizer.latents(values + self.limit).astype(np.int32)


@dataclass(frozen=True, eq=False)
class Frame:
    """What is known of a chunk before it is read.

    Attributes:
        channels: of a patch.
        levels: (P,) of each patch.
        places: where they lie.
    """

    channels: int
    levels: Integers
    places: Places

    def __len__(self) -> int:
        return len(self.levels)


def pack_chunk(codes: PatchCodes, code: SymbolCode | LatentCode, centers: Integers, frame: Frame, weights: Integers | None = None) -> bytes:
    """A chunk, in fewest bytes where there is a choice.

    Args:
        codes: of the patches.
        code: of their latents.
        centers: (L,) of the latents.
        frame: of the chunk.
        weights: of frames and planes, with which latents were predicted.
    """
    if not len(codes.latents):
        return _packed(codes, b"")
    if isinstance(code, LatentCode):
        known, weights = known_of(code.prior, codes.constant, codes.colours, frame), np.zeros(LAYERED, np.int64) if weights is None else weights
        deviations = known.deviations.copy()
        deviations[~codes.constant] = codes.latents - centers
        return _packed(codes, bytes([_PREDICTED]) + code.encode(known, deviations, weights))
    symbols, lying, typical = code.quantizer.bins(codes.latents), frame.places.only(~codes.constant), typical_magnitudes(code.tables)
    values = symbols.astype(np.int64) - code.limit
    if code.progressive:
        return _packed(codes, bytes([_PROGRESSIVE]) + encode_latents(values, lying, typical, code.limit, progressive=True))
    columns = encode_columns(symbols, code.tables)
    if not code.contexts:
        return _packed(codes, columns)
    return _packed(codes, min(columns, bytes([_IN_CONTEXTS]) + encode_latents(values, lying, typical, code.limit), key=len))


def known_of(prior: LatentPrior, constant: NDArray[np.bool_], colours: Integers, frame: Frame) -> Known:
    """What is known of the patches of a chunk once it is known which are `constant` (P,), and of which `colours` (constant patches, channels)."""
    deviations = np.zeros((len(constant), prior.latents), np.int64)
    deviations[constant] = prior.of_colours(colours, frame.levels[constant])
    return Known(frame.places, constant, deviations)


def _packed(codes: PatchCodes, symbols: bytes) -> bytes:
    if not len(codes.colours):
        return bytes([_PLAIN]) + symbols
    differences = np.diff(codes.colours, axis=0, prepend=0).astype("<i4")
    plain = np.packbits(codes.constant).tobytes() + differences.view(np.uint8).reshape(-1, 4).T.tobytes()
    packed = zlib.compress(plain, 9)
    return bytes([_WITH_CONSTANTS]) + pack_varint(len(packed)) + packed + symbols


def unpack_chunk(data: bytes, code: SymbolCode | LatentCode, centers: Integers, frame: Frame) -> PatchCodes:
    """The codes that `pack_chunk`, with the same arguments, made `data` of.

    Raises:
        InputError: it is damaged.
    """
    cursor = Cursor(data)
    constant, colours = _read_constants(cursor, len(frame), frame.channels)
    rest = cursor.take(cursor.remaining)
    if len(colours) == len(frame):
        if rest:
            raise InputError("damaged bitstream: a chunk has bytes after its last patch")
        return PatchCodes(constant, colours, np.empty((0, len(centers)), np.int32))
    if isinstance(code, LatentCode):
        _check_kind(rest, _PREDICTED)
        deviations = code.decode(rest[1:], known_of(code.prior, constant, colours, frame))
        return PatchCodes(constant, colours, (deviations[~constant] + centers).astype(np.int32))
    if not _in_contexts(rest, code):
        return PatchCodes(constant, colours, code.quantizer.latents(decode_columns(rest, len(frame) - len(colours), code.tables)).astype(np.int32))
    lying = frame.places.only(~constant)
    values = decode_latents(rest[1:], lying, typical_magnitudes(code.tables), code.limit, progressive=code.progressive)
    return PatchCodes(constant, colours, code.latents(values))


def begun_chunk(data: bytes, code: SymbolCode | LatentCode, centers: Integers, frame: Frame) -> tuple[PatchCodes, int]:
    """Likewise of a chunk that was cut off: the codes, and how many latents of all patches it tells.

    The others are their centre, or as they are guessed. Of a patch of one colour all latents count as told.

    Raises:
        InputError: it is damaged in a way that shows.
    """
    cursor = Cursor(data)
    try:
        constant, colours = _read_constants(cursor, len(frame), frame.channels)
    except CutOffError:
        return PatchCodes(
            np.zeros(len(frame), np.bool_), np.empty((0, frame.channels), np.int64), np.tile(centers, (len(frame), 1)).astype(np.int32)
        ), 0
    rest, coded, told = cursor.take(cursor.remaining), len(frame) - len(colours), len(colours) * len(centers)
    if isinstance(code, LatentCode):
        if rest:
            _check_kind(rest, _PREDICTED)
        deviations, known = code.begun(rest[1:], known_of(code.prior, constant, colours, frame))
        return PatchCodes(constant, colours, (deviations[~constant] + centers).astype(np.int32)), told + known
    if not rest or not _in_contexts(rest, code):
        symbols, known = begun_columns(rest, coded, code.tables)
        return PatchCodes(constant, colours, code.quantizer.latents(symbols).astype(np.int32)), told + known
    values, known = begun_latents(rest[1:], frame.places.only(~constant), typical_magnitudes(code.tables), code.limit, progressive=code.progressive)
    return PatchCodes(constant, colours, code.latents(values)), told + known * coded


def _check_kind(latents: bytes, kind: int) -> None:
    """Check that latents are coded in the one way that the stream's version has.

    Raises:
        InputError: they are not.
    """
    if latents[:1] != bytes([kind]):
        raise InputError("damaged bitstream: a chunk whose latents are coded in a way that its version does not have")


def _in_contexts(latents: bytes, code: SymbolCode) -> bool:
    """Whether latents are in contexts, rather than columns.

    Raises:
        InputError: they are what a progressive chunk may not hold.
    """
    if code.progressive:
        _check_kind(latents, _PROGRESSIVE)
    return code.progressive or (code.contexts and latents[:1] == bytes([_IN_CONTEXTS]))


def _read_constants(cursor: Cursor, count: int, channels: int) -> tuple[NDArray[np.bool_], Integers]:
    """(P,) which patches are of one colour, and (constant patches, channels) these colours.

    Raises:
        CutOffError: the chunk ends before they do.
        InputError: they are damaged.
    """
    kind = cursor.byte()
    if kind == _PLAIN:
        return np.zeros(count, np.bool_), np.empty((0, channels), np.int64)
    if kind != _WITH_CONSTANTS:
        raise InputError(f"damaged bitstream: a chunk of unknown kind {kind}")
    packed, mask_bytes = cursor.take(cursor.varint()), -(-count // 8)
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(packed, mask_bytes + 4 * channels * count + 1)
    except zlib.error:
        raise InputError("damaged bitstream: the constant patches of a chunk cannot be inflated") from None
    constant = np.unpackbits(np.frombuffer(plain[:mask_bytes], np.uint8), count=count).astype(np.bool_) if len(plain) >= mask_bytes else None
    if constant is None or len(plain) != mask_bytes + 4 * channels * int(constant.sum()) or not inflater.eof or inflater.unused_data:
        raise InputError("damaged bitstream: the constant patches of a chunk differ in number")
    differences = np.frombuffer(plain, np.uint8, offset=mask_bytes).reshape(4, -1).T.copy().view("<i4").reshape(-1, channels)
    return constant, np.cumsum(differences.astype(np.int64), axis=0)
