"""Patch codes as bytes, and back: a chunk is which patches are of one colour, and these colours; then the symbols of the others.

Symbols are columns under tables, or latents in contexts; these may be progressive, so that any beginning of the chunk tells all patches coarsely.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.entropy import begun_columns, decode_columns, encode_columns
from compresskit.codec.neighbours import Places
from compresskit.codec.patchcode import Integers, PatchCodes
from compresskit.codec.prior import begun_latents, decode_latents, encode_latents, typical_magnitudes
from compresskit.codec.varint import Cursor, CutOffError, pack_varint
from compresskit.errors import InputError

_PLAIN, _WITH_CONSTANTS = 0, 1
_IN_CONTEXTS, _PROGRESSIVE = 2, 3  # as the first byte of symbols, beside those of columns


def pack_chunk(codes: PatchCodes, tables: NDArray[np.uint32], places: Places | None = None) -> bytes:
    """A chunk of versions 1 and 2, its symbols in fewest bytes.

    Args:
        codes: of at most `CHUNK` patches.
        tables: (latents, 2**bits) frequencies.
        places: where the patches lie; None: symbols are coded under tables, as in version 1.
    """
    if not len(codes.symbols):
        return _packed(codes, b"")
    columns = encode_columns(codes.symbols, tables)
    if places is None:
        return _packed(codes, columns)
    return _packed(codes, min(columns, bytes([_IN_CONTEXTS]) + _coded(codes, tables, places, progressive=False), key=len))


def pack_progressive(codes: PatchCodes, tables: NDArray[np.uint32], places: Places) -> bytes:
    """The chunk of a stream of version 3, for all its patches; the arguments are those of `pack_chunk`."""
    return _packed(codes, bytes([_PROGRESSIVE]) + _coded(codes, tables, places, progressive=True) if len(codes.symbols) else b"")


def _packed(codes: PatchCodes, symbols: bytes) -> bytes:
    if not len(codes.colours):
        return bytes([_PLAIN]) + symbols
    differences = np.diff(codes.colours, axis=0, prepend=0).astype("<i4")
    plain = np.packbits(codes.constant).tobytes() + differences.view(np.uint8).reshape(-1, 4).T.tobytes()
    packed = zlib.compress(plain, 9)
    return bytes([_WITH_CONSTANTS]) + pack_varint(len(packed)) + packed + symbols


def _coded(codes: PatchCodes, tables: NDArray[np.uint32], places: Places, *, progressive: bool) -> bytes:
    limit = tables.shape[1] // 2
    values = codes.symbols.astype(np.int64) - limit
    return encode_latents(values, places.only(~codes.constant), typical_magnitudes(tables), limit, progressive=progressive)


def unpack_chunk(
    data: bytes, count: int, channels: int, tables: NDArray[np.uint32], places: Places | None = None, *, progressive: bool = False
) -> PatchCodes:
    """The codes of `count` patches that `pack_chunk` or `pack_progressive`, with these tables and places, made `data` of.

    Raises:
        InputError: it is damaged.
    """
    cursor = Cursor(data)
    constant, colours = _read_constants(cursor, count, channels)
    rest, coded = cursor.take(cursor.remaining), count - len(colours)
    if not coded:
        if rest:
            raise InputError("damaged bitstream: a chunk has bytes after its last patch")
        return PatchCodes(constant, colours, np.empty((0, len(tables)), np.int32))
    if places is None or not _in_contexts(rest, progressive=progressive):
        return PatchCodes(constant, colours, decode_columns(rest, coded, tables))
    limit = tables.shape[1] // 2
    values = decode_latents(rest[1:], places.only(~constant), typical_magnitudes(tables), limit, progressive=progressive)
    return PatchCodes(constant, colours, (values + limit).astype(np.int32))


def begun_chunk(
    data: bytes, count: int, channels: int, tables: NDArray[np.uint32], places: Places | None = None, *, progressive: bool = False
) -> tuple[PatchCodes, int]:
    """Likewise of a chunk that was cut off: the codes, and how many latents of all patches it tells.

    The others are the middle bin. Of a patch of one colour all latents count as told.

    Raises:
        InputError: it is damaged in a way that shows.
    """
    cursor, limit = Cursor(data), tables.shape[1] // 2
    try:
        constant, colours = _read_constants(cursor, count, channels)
    except CutOffError:
        return PatchCodes(np.zeros(count, np.bool_), np.empty((0, channels), np.int64), np.full((count, len(tables)), limit, np.int32)), 0
    rest, coded, told = cursor.take(cursor.remaining), count - len(colours), len(colours) * len(tables)
    if not rest or places is None or not _in_contexts(rest, progressive=progressive):
        symbols, known = begun_columns(rest, coded, tables)
        return PatchCodes(constant, colours, symbols), told + known
    values, known = begun_latents(rest[1:], places.only(~constant), typical_magnitudes(tables), limit, progressive=progressive)
    return PatchCodes(constant, colours, (values + limit).astype(np.int32)), told + known * coded


def _in_contexts(symbols: bytes, *, progressive: bool) -> bool:
    """Whether symbols are latents in contexts, rather than columns.

    Raises:
        InputError: they are what a progressive chunk may not hold.
    """
    if progressive and symbols[:1] != bytes([_PROGRESSIVE]):
        raise InputError("damaged bitstream: a progressive chunk whose latents are in no progressive order")
    return progressive or symbols[:1] == bytes([_IN_CONTEXTS])


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
