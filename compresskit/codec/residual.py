"""Integer samples coded exactly, given a prediction of them: what `--lossless` and `--max-error` add to a network's reconstruction.

The first byte says how: the prediction is right throughout; deflated samples, where nothing is smaller; or an adaptive code, of a grid
(`lattice`) or of a line (`lanes`), which uses the prediction as far as it helps.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.contexts import Reader, Writer
from compresskit.codec.lanes import code_line
from compresskit.codec.lattice import choose_order, code_grid
from compresskit.codec.varint import Cursor, pack_varint
from compresskit.errors import InputError

Ints = NDArray[np.int64]

_EQUAL, _DEFLATED, _CODED, _CODED_WITH_PREDICTION = range(4)
_LARGEST = 1 << 40
_MOST_CHANNELS = 8  # that are predicted one from another


def encode_residual(values: Ints, prediction: Ints) -> bytes:
    """The bytes from which `decode_residual` restores `values` (frames, *spatial, channels), given `prediction` of the same shape.

    Never more than 12 bytes longer than the deflated samples.

    Raises:
        InputError: a value or a prediction is beyond +-2**40.
    """
    if values.size and max(-int(values.min()), int(values.max()), -int(prediction.min()), int(prediction.max())) > _LARGEST:
        raise InputError("cannot code samples beyond +-2**40 without loss: use a coarser --max-error")
    if np.array_equal(values, prediction):
        return bytes([_EQUAL])
    low = int(values.min())
    step = int(np.gcd.reduce(values - low, axis=None)) or 1
    levels = (values - low) // step
    top = int(levels.max())
    head = pack_varint(2 * low if low >= 0 else -2 * low - 1) + pack_varint(step) + pack_varint(top)
    deflated = bytes([_DEFLATED]) + head + zlib.compress(levels.astype(_sample_type(top)).tobytes(), 9)
    hint = np.clip((prediction - low) // step, 0, top)
    coded = _encode(levels, hint, top, head)
    return min(coded, deflated, key=len)


def decode_residual(data: bytes, prediction: Ints) -> Ints:
    """The values (frames, *spatial, channels) that `encode_residual` made `data` of, given the same `prediction`.

    Raises:
        InputError: `data` is damaged in a way that shows.
    """
    cursor = Cursor(data)
    mode = cursor.byte()
    if mode == _EQUAL:
        return prediction.copy()
    code, step, top = cursor.varint(), cursor.varint(), cursor.varint()
    low = code >> 1 ^ -(code & 1)
    if abs(low) > _LARGEST or step < 1 or step * top > 2 * _LARGEST or not prediction.size:
        raise InputError("damaged residual: its range of samples is impossible; get a fresh copy")
    if mode == _DEFLATED:
        return _inflate(cursor.take(cursor.remaining), prediction.shape, top) * step + low
    if mode not in (_CODED, _CODED_WITH_PREDICTION):
        raise InputError(f"damaged residual: kind {mode} is unknown; get a fresh copy")
    hint = np.clip((prediction - low) // step, 0, top) if mode == _CODED_WITH_PREDICTION else None
    return _decode(cursor, prediction.shape, hint, top) * step + low


def _encode(levels: Ints, hint: Ints, top: int, head: bytes) -> bytes:
    """`levels` in [0, `top`] through the adaptive coder."""
    helpful = int(hint.min()) < int(hint.max())
    grid, line = _squeezed(levels.shape)
    writer, order = Writer(), b""
    helper = hint.reshape(grid) if helpful else None
    if line:
        code_line(writer, levels.reshape(grid).copy(), helper, top)
    else:
        axes = choose_order(levels.reshape(grid))
        order = _pack_order(axes, len(grid) - 1)
        code_grid(writer, levels.reshape(grid).copy(), helper, top, axes)
    alphabet, bits, coded = writer.finish()
    mode = _CODED_WITH_PREDICTION if helpful else _CODED
    return bytes([mode]) + head + order + bytes([alphabet]) + pack_varint(len(bits)) + bits + coded


def _decode(cursor: Cursor, shape: tuple[int, ...], hint: Ints | None, top: int) -> Ints:
    grid, line = _squeezed(shape)
    order = () if line else _unpack_order(cursor, grid[:-1])
    alphabet = cursor.byte()
    bits = cursor.take(cursor.varint())
    reader = Reader(alphabet, bits, cursor.take(cursor.remaining))
    levels = np.zeros(grid, dtype=np.int64)
    helper = None if hint is None else hint.reshape(grid)
    if line:
        code_line(reader, levels, helper, top)
    else:
        code_grid(reader, levels, helper, top, order)
    return levels.reshape(shape)


def _squeezed(shape: tuple[int, ...]) -> tuple[tuple[int, ...], bool]:
    """`shape` without the axes of one sample, channels last, and whether one axis or none is left: a line. Many channels are an axis."""
    axes, channels = (shape, 1) if shape[-1] > _MOST_CHANNELS else (shape[:-1], shape[-1])
    axes = tuple(size for size in axes if size > 1)
    return ((*axes, channels), False) if len(axes) > 1 else ((math.prod(axes), channels), True)


def _pack_order(order: tuple[int, ...], axes: int) -> bytes:
    """`order` as the digits of one number to the base `axes`."""
    number = sum(axis * axes**place for place, axis in enumerate(order))
    return number.to_bytes(_order_bytes(len(order), axes), "big")


def _unpack_order(cursor: Cursor, grid: tuple[int, ...]) -> tuple[int, ...]:
    length = sum((size - 1).bit_length() for size in grid)
    number = int.from_bytes(cursor.take(_order_bytes(length, len(grid))), "big")
    return tuple(number // len(grid) ** place % len(grid) for place in range(length))


def _order_bytes(length: int, axes: int) -> int:
    return ((axes**length - 1).bit_length() + 7) // 8


def _sample_type(top: int) -> str:
    """The narrowest unsigned integers that hold `top`, little-endian."""
    return next(f"<u{width}" for width in (1, 2, 4, 8) if top < 1 << 8 * width)


def _inflate(data: bytes, shape: tuple[int, ...], top: int) -> Ints:
    kind = np.dtype(_sample_type(top))
    size = math.prod(shape) * kind.itemsize
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(data, size + 1)
    except zlib.error:
        raise InputError("damaged residual: its samples cannot be inflated; get a fresh copy") from None
    if len(raw) != size or not unpacker.eof:
        raise InputError(f"damaged residual: {size} bytes of samples were expected; get a fresh copy")
    return np.minimum(np.frombuffer(raw, dtype=kind).reshape(shape).astype(np.int64), top)
