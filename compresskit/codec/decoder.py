"""A stream to signals, exactly as its encoder found them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from compresskit.codec import coin
from compresskit.codec.coinfit import coin_coordinates, coin_levels
from compresskit.codec.coinpayload import unpack_coin
from compresskit.codec.coinpp import decode_signal
from compresskit.codec.guard import Guard, decode_guard
from compresskit.codec.levels import Levels, from_levels
from compresskit.codec.modalities import MODALITIES
from compresskit.codec.opened import Opened
from compresskit.codec.patchcode import PatchCodes, blank, join
from compresskit.codec.regions import Positions
from compresskit.codec.signal import Signal
from compresskit.codec.stream import Item
from compresskit.errors import InputError, UsageError
from compresskit.progress import SILENT, Progress

Chunks = Callable[[int], PatchCodes]


def decode_items(
    opened: Opened,
    chosen: Sequence[int],
    scale: int = 1,
    progress: Progress = SILENT,
    parts: Mapping[int, Positions] = MappingProxyType({}),
) -> Iterator[Signal]:
    """Decode the items with the numbers `chosen`, on grids `scale` times finer.

    Args:
        opened: the stream.
        chosen: numbers of items.
        scale: no guard holds on a finer grid.
        progress: of patches.
        parts: for the number of an item, the positions on the finer grid that are wanted: samples elsewhere may be left at level 0.

    Raises:
        InputError: the stream is damaged.
        UsageError: the stream holds samples, and a finer grid is asked for.
    """
    if scale != 1 and opened.stream.header.method == "plain":
        raise UsageError("--scale: the stream holds the samples themselves, and no network to sample between them; leave it out")
    chunk = lru_cache(maxsize=1)(opened.chunk)  # small items share one
    for number in chosen:
        item = opened.stream.items[number]
        yield _signal(item, _samples(opened, number, scale, progress, parts.get(number), chunk), scale)


def _samples(opened: Opened, number: int, scale: int, progress: Progress, parts: Positions | None, chunk: Chunks) -> NDArray[np.generic]:
    stream, item = opened.stream, opened.stream.items[number]
    dtype = np.dtype(item.dtype).newbyteorder("=")
    if stream.header.method == "plain":
        return _inflated(stream.chunks[number], item.shape, dtype)
    if opened.base is not None:
        codes = _codes(opened, number, opened.touched(number, parts, scale), chunk)
        levels = decode_signal(opened.base, codes, opened.layouts[number], scale, progress)
    else:
        levels = _coin_levels(stream.chunks[number], item, scale)
    decoded = from_levels(levels, item.scale, dtype)
    if not opened.guarded(scale) or number >= len(stream.residuals):  # which only a stream has that was cut off
        return decoded
    return decode_guard(Guard(stream.header.guard, stream.header.tolerance), stream.residuals[number], decoded, item.scale)


def _codes(opened: Opened, number: int, touched: NDArray[np.bool_] | None, chunk: Chunks) -> PatchCodes:
    """The codes of one item, from the chunks that hold them; where (patches,) `touched` says which are wanted, the others are blank."""
    base, (first, last) = opened.base, opened.first_patches[number : number + 2]
    assert base is not None
    parts = []
    size = opened.chunk_size
    for index in range(first // size, -(-last // size)):
        begin = index * size
        inside = slice(max(first - begin, 0), min(last - begin, size))
        wanted = None if touched is None else touched[begin + inside.start - first : begin + inside.stop - first]
        if wanted is not None and not wanted.any():
            parts.append(blank(len(wanted), base.channels, base.latents))
            continue
        codes = chunk(index).part(inside.start, inside.stop)
        parts.append(codes if wanted is None else codes.only(wanted))
    return join(parts)


def _coin_levels(chunk: bytes, item: Item, scale: int) -> Levels:
    shape = (item.shape[0], *(size * scale for size in item.shape[1:-1]), item.shape[-1])
    coordinates = coin_coordinates(item.shape, scale)
    symbols, width, depth = unpack_coin(chunk, coordinates.shape[1], item.shape[-1])
    network = coin.network(symbols, coordinates.shape[1], width, depth, item.shape[-1])
    return coin_levels(network, coordinates, item.scale.levels).reshape(shape)


def _inflated(data: bytes, shape: tuple[int, ...], dtype: np.dtype) -> NDArray[np.generic]:
    expected = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(data, expected + 1)
    except zlib.error:
        raise InputError("damaged bitstream: the samples cannot be inflated") from None
    if len(plain) != expected or not inflater.eof or inflater.unused_data:
        raise InputError(f"damaged bitstream: {expected} bytes of samples were expected")
    return np.frombuffer(plain, dtype.newbyteorder("<")).astype(dtype).reshape(shape)


def _signal(item: Item, values: NDArray[np.generic], scale: int) -> Signal:
    missing = None
    if item.missing:
        count = int(np.prod(item.shape[:-1]))
        packed = _inflated(item.missing, (-(-count // 8),), np.dtype("u1"))
        missing = np.unpackbits(packed.astype(np.uint8), count=count).astype(np.bool_).reshape(item.shape[:-1])
        for axis in range(1, missing.ndim) if scale > 1 else ():
            missing = np.repeat(missing, scale, axis=axis)
    axes = MODALITIES[item.modality].axes(item.metadata, item.shape)
    return Signal(values, item.modality, item.format, item.scale, item.peak, item.metadata, missing, axes, item.name)
