"""Symbols to bytes under frequency tables: one range-coded stream, column by column, or plain bits where those are fewer."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.rangecoder import TABLE_BITS, RangeReader, RangeWriter
from compresskit.codec.varint import CutOffError
from compresskit.errors import InputError

_TOTAL = 1 << TABLE_BITS
_RAW, _RANGE_CODED = 0, 1
_MAX_COUNT_BITS = 62 - TABLE_BITS  # so that a count times 2**16 is an int64


def normalize(counts: NDArray[np.integer]) -> NDArray[np.uint32]:
    """Frequency tables (..., K) from `counts` (..., K): each frequency at least 1, in sum 65536, as near to proportional as integers allow.

    Every symbol gets 1; what is left is dealt out in proportion, rounded by largest remainder, the lower symbol first where two are equal.
    Integers only: encoder and decoder compute the same table anywhere. No counts at all give equal frequencies.

    Raises:
        InputError: there are no symbols, more than 65536, a negative count, or more than 2**46 counts in a table.
    """
    counts = np.asarray(counts, dtype=np.int64)
    size = counts.shape[-1] if counts.ndim else 0
    if not 1 <= size <= _TOTAL:
        raise InputError(f"a frequency table of {size} symbols: 1 to {_TOTAL} are possible")
    if bool((counts < 0).any()) or bool((counts >> _MAX_COUNT_BITS).any()) or bool((counts.sum(axis=-1) >> _MAX_COUNT_BITS).any()):
        raise InputError(f"frequency counts must be 0 or more, and under 2**{_MAX_COUNT_BITS} in all")
    total = counts.sum(axis=-1, keepdims=True)
    counts, total = np.where(total > 0, counts, 1), np.where(total > 0, total, size)
    whole, remainder = np.divmod(counts * (_TOTAL - size), total)
    missing = _TOTAL - size - whole.sum(axis=-1, keepdims=True)
    by_remainder = np.argsort(-remainder, axis=-1, kind="stable")
    extra = np.empty_like(whole)
    np.put_along_axis(extra, by_remainder, (np.arange(size) < missing).astype(np.int64), axis=-1)
    return (1 + whole + extra).astype(np.uint32)


def merge(tables: NDArray[np.integer], bits: int) -> NDArray[np.uint32]:
    """Tables (L, 2**bits) for a quantizer of fewer bits over the same range: sums of the neighbouring bins of `tables` (L, K).

    Raises:
        InputError: K is no multiple of 2**bits.
    """
    rows, size = tables.shape
    if size % (1 << bits):
        raise InputError(f"tables of {size} symbols cannot be merged into {1 << bits}")
    return tables.reshape(rows, 1 << bits, -1).sum(axis=-1).astype(np.uint32)


def encode_columns(symbols: NDArray[np.integer], tables: NDArray[np.integer]) -> bytes:
    """Encode `symbols` (N, L), column l under the table l of `tables` (L, K).

    The first byte says whether the rest is range-coded or plain bits, whichever is shorter. Column by column, because
    one model a column is built L times, and one a symbol N x L times: 70 times slower.

    Raises:
        InputError: a symbol is not in [0, K).
    """
    size = tables.shape[-1]
    if symbols.size and not 0 <= int(symbols.min()) <= int(symbols.max()) < size:
        raise InputError(f"symbols must be in 0 to {size - 1} to be encoded with a table of {size}")
    writer = RangeWriter()
    for column, table in zip(symbols.T, tables, strict=True):
        writer.encode(column, table)
    coded, raw = writer.finish(), _pack_bits(symbols, _width(size))
    return bytes([_RAW]) + raw if len(raw) < len(coded) else bytes([_RANGE_CODED]) + coded


def decode_columns(data: bytes, rows: int, tables: NDArray[np.integer]) -> NDArray[np.int32]:
    """The symbols (rows, L), each in [0, K), that `encode_columns` made `data` of. It takes 4 rows L bytes: check `rows` before.

    Raises:
        InputError: `data` is damaged in a way that shows.
    """
    columns, size = tables.shape
    if data[:1] == bytes([_RAW]):
        symbols = _unpack_bits(data[1:], rows * columns, _width(size)).reshape(rows, columns)
        if symbols.size and int(symbols.max()) >= size:
            raise InputError(f"damaged stream: it holds a symbol past the {size} of its table; get a fresh copy")
        return symbols
    if data[:1] != bytes([_RANGE_CODED]):
        raise InputError("damaged stream: its symbols are neither range-coded nor plain bits; get a fresh copy")
    reader = RangeReader(data[1:])
    symbols = np.empty((rows, columns), dtype=np.int32)
    for column, table in enumerate(tables):
        symbols[:, column] = reader.decode(rows, table)
    return symbols


def begun_columns(data: bytes, rows: int, tables: NDArray[np.integer]) -> tuple[NDArray[np.int32], int]:
    """Likewise of `data` that were cut off: the symbols, and how many of them these are; in place of the others the middle one, K / 2.

    Raises:
        InputError: `data` is damaged in a way that shows.
    """
    columns, size = tables.shape
    symbols = np.full((rows, columns), size // 2, dtype=np.int32)
    if data[:1] == bytes([_RAW]):
        row_bits = columns * _width(size)
        known = min(8 * (len(data) - 1) // row_bits, rows)
        symbols[:known] = decode_columns(data[: 1 + (known * row_bits + 7) // 8], known, tables)
        return symbols, known * columns
    if data[:1] not in (b"", bytes([_RANGE_CODED])):
        raise InputError("damaged stream: its symbols are neither range-coded nor plain bits; get a fresh copy")
    reader = RangeReader(data[1:], cut=True)
    for column, table in enumerate(tables):
        try:
            symbols[:, column] = reader.decode(rows, table)
        except CutOffError:
            return symbols, rows * column
    return symbols, rows * columns


def pack_table(table: NDArray[np.integer]) -> bytes:
    """A table (K,) or tables (L, K) as deflated bytes: high bytes of all frequencies less 1, then the low bytes."""
    frequencies = (table.ravel() - 1).astype(">u2")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(frequencies.view(np.uint8).reshape(-1, 2).T.tobytes()) + packer.flush()


def unpack_table(data: bytes, shape: tuple[int, ...]) -> NDArray[np.uint32]:
    """The tables of `shape`, (K,) or (L, K), that `pack_table` made `data` of. It takes 8 bytes a frequency: check `shape` before.

    Raises:
        InputError: `data` is damaged, or holds no tables of this shape.
    """
    count = int(np.prod(shape, dtype=np.int64))
    unpacker = zlib.decompressobj(-15)
    try:
        planes = unpacker.decompress(data, 2 * count + 1)
    except zlib.error:
        raise InputError("damaged frequency tables: they cannot be inflated; get a fresh copy") from None
    if len(planes) != 2 * count or not unpacker.eof or unpacker.unused_data:
        raise InputError(f"damaged frequency tables: {count} frequencies were expected; get a fresh copy")
    low_byte_last = np.ascontiguousarray(np.frombuffer(planes, dtype=np.uint8).reshape(2, count).T)
    tables = low_byte_last.view(">u2").reshape(shape).astype(np.uint32) + np.uint32(1)
    if bool((tables.sum(axis=-1, dtype=np.int64) != _TOTAL).any()):
        raise InputError(f"damaged frequency tables: their frequencies do not sum to {_TOTAL}; get a fresh copy")
    return tables


def _width(size: int) -> int:
    """Bits of a symbol out of `size`."""
    return (size - 1).bit_length()


def _pack_bits(symbols: NDArray[np.integer], width: int) -> bytes:
    """`symbols` in C order, `width` bits each, most significant first."""
    shifts = np.arange(width - 1, -1, -1)
    return np.packbits((symbols.reshape(-1, 1) >> shifts & 1).astype(np.uint8)).tobytes()


def _unpack_bits(data: bytes, count: int, width: int) -> NDArray[np.int32]:
    if len(data) != (count * width + 7) // 8:
        raise InputError(f"damaged stream: {count} symbols of {width} bits were expected; get a fresh copy")
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=count * width).reshape(count, width)
    weights = 1 << np.arange(width - 1, -1, -1)
    return (bits @ weights).astype(np.int32)
