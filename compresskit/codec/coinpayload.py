"""A COIN network as the bytes of one chunk: its sizes, its tensors' ranges, and its symbols.

Symbols of more than 6 bits are split: the upper 6 are range-coded under a table of their own that is sent along, the rest are plain bits.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.coin import CoinSymbols, tensor_shapes
from compresskit.codec.entropy import decode_columns, encode_columns, normalize, pack_table, unpack_table
from compresskit.codec.exact import MAX_WIDTH
from compresskit.codec.varint import Cursor, pack_varint
from compresskit.errors import InputError

MAX_DEPTH = 64
_MODELLED_BITS = 6
_COUNT_SHIFT = 8  # tables are sent with 8 bits less: what they lose is less than what these bits would take
_MOST_WEIGHTS = 2**24
_WEIGHTS_A_BYTE = 256  # at most: a network of fewer bits would be one weight over and over


def pack_coin(symbols: CoinSymbols, width: int, depth: int) -> bytes:
    """The chunk of a network of `depth` hidden layers of `width`."""
    head = [width, depth, symbols.bits, *symbols.fractions, *(_zigzag(low) for low in symbols.lows), *symbols.steps]
    flat = np.concatenate(symbols.symbols)
    low_bits = max(symbols.bits - _MODELLED_BITS, 0)
    upper, lower = flat >> low_bits, flat & ((1 << low_bits) - 1)
    table = coarse(np.bincount(upper, minlength=1 << (symbols.bits - low_bits)))
    packed = pack_table(table)
    coded = encode_columns(upper[:, None], table[None])
    parts = [pack_varint(len(packed)), packed, pack_varint(len(coded)), coded, _pack_bits(lower, low_bits)]
    return b"".join(pack_varint(number) for number in head) + b"".join(parts)


def read_sizes(cursor: Cursor) -> tuple[int, int, int]:
    """Width, depth and bits of the network whose chunk begins at `cursor`.

    Raises:
        InputError: no network has them.
    """
    width, depth, bits = cursor.varint(), cursor.varint(), cursor.varint()
    if not (1 <= width <= MAX_WIDTH and 1 <= depth <= MAX_DEPTH and 1 <= bits <= 16):
        raise InputError(f"damaged bitstream: a COIN network of {depth} layers of width {width} with {bits} bits")
    return width, depth, bits


def unpack_coin(data: bytes, dims: int, channels: int) -> tuple[CoinSymbols, int, int]:
    """The symbols, width and depth that `pack_coin` made `data` of.

    Raises:
        InputError: it is damaged.
    """
    cursor = Cursor(data)
    width, depth, bits = read_sizes(cursor)
    sizes = [math.prod(shape) for shape in tensor_shapes(dims, width, depth, channels)]
    if sum(sizes) > min(_MOST_WEIGHTS, _WEIGHTS_A_BYTE * len(data)):
        raise InputError(f"damaged bitstream: a COIN network of {sum(sizes)} weights")
    fractions = [cursor.varint() for _ in range(depth + 1)]
    lows = [_unzigzag(cursor.varint()) for _ in sizes]
    steps = [cursor.varint() for _ in sizes]
    low_bits = max(bits - _MODELLED_BITS, 0)
    table = unpack_table(cursor.take(cursor.varint()), (1 << (bits - low_bits),))
    upper = decode_columns(cursor.take(cursor.varint()), sum(sizes), table[None])[:, 0]
    flat = (upper << low_bits) | _unpack_bits(cursor.take(cursor.remaining), sum(sizes), low_bits)
    tensors = tuple(flat[begin:end] for begin, end in itertools.pairwise([0, *itertools.accumulate(sizes)]))
    return CoinSymbols(tensors, tuple(lows), tuple(steps), tuple(fractions), bits), width, depth


def coarse(counts: NDArray[np.integer]) -> NDArray[np.uint32]:
    """A table near to `counts` whose frequencies have few significant bits, so that it deflates well."""
    return normalize(normalize(counts) >> _COUNT_SHIFT)


def _pack_bits(values: NDArray[np.integer], bits: int) -> bytes:
    planes = np.empty((len(values), bits), np.uint8)
    for bit in range(bits):
        planes[:, bit] = values >> bit & 1
    return np.packbits(planes).tobytes()


def _unpack_bits(data: bytes, count: int, bits: int) -> NDArray[np.int32]:
    if len(data) != -(-count * bits // 8):
        raise InputError("damaged bitstream: a COIN network's lower bits differ in number")
    planes = np.unpackbits(np.frombuffer(data, np.uint8), count=count * bits).reshape(count, bits)
    values = np.zeros(count, np.int32)
    for bit in range(bits):
        values |= planes[:, bit].astype(np.int32) << bit
    return values


def _zigzag(value: int) -> int:
    return 2 * value if value >= 0 else -2 * value - 1


def _unzigzag(code: int) -> int:
    return code >> 1 if code % 2 == 0 else -(code >> 1) - 1
