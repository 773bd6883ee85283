"""A stream to signals, exactly as its encoder found them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compresskit.codec import coin
from compresskit.codec.base import Base, load_base
from compresskit.codec.coinpayload import unpack_coin
from compresskit.codec.coinpp import Layout, decode_signal, layout
from compresskit.codec.encoder import coin_coordinates
from compresskit.codec.exact import evaluate
from compresskit.codec.guard import Guard, decode_guard
from compresskit.codec.levels import from_levels
from compresskit.codec.modalities import MODALITIES
from compresskit.codec.patchcode import CHUNK, PatchCodes, join, unpack_chunk
from compresskit.codec.shelf import find
from compresskit.codec.signal import Signal
from compresskit.codec.stream import Item, Stream
from compresskit.errors import InputError
from compresskit.progress import SILENT, Progress


@dataclass(frozen=True, eq=False)
class Opened:
    """A stream with everything that its symbols need.

    Attributes:
        stream: unpacked.
        base: of COIN++, None for the other methods.
        layouts: of each item, of COIN++; () for the other methods.
    """

    stream: Stream
    base: Base | None
    layouts: tuple[Layout, ...]


def open_stream(stream: Stream, given: Base | None = None) -> Opened:
    """Find the base network, and check that chunks and residuals are as many as the items ask for.

    Raises:
        InputError: the base network is not at hand or does not suit the items, or the stream contradicts itself.
    """
    header = stream.header
    if len(stream.residuals) != (len(stream.items) if header.guard != "none" and header.method != "plain" else 0):
        raise InputError(f"damaged bitstream: {len(stream.residuals)} residuals for {len(stream.items)} items")
    if header.method != "coin++":
        if len(stream.chunks) != len(stream.items):
            raise InputError(f"damaged bitstream: {len(stream.chunks)} chunks for {len(stream.items)} items")
        return Opened(stream, None, ())
    base = find(header.base, load_base(stream.base_file, "the embedded base network") if stream.base_file else given)
    if header.bits not in base.tables:
        raise InputError(f"damaged bitstream: latents of {header.bits} bits")
    layouts = tuple(_layout(item, base, header.patch) for item in stream.items)
    patches = sum(lay.patches(base) for lay in layouts)
    if len(stream.chunks) != -(-patches // CHUNK):
        raise InputError(f"damaged bitstream: {len(stream.chunks)} chunks for {patches} patches")
    return Opened(stream, base, layouts)


def decode_items(opened: Opened, chosen: Sequence[int], scale: int = 1, progress: Progress = SILENT) -> Iterator[Signal]:
    """Decode the items with the numbers `chosen`, on grids `scale` times finer.

    Raises:
        InputError: the stream is damaged.
    """
    for number in chosen:
        item = opened.stream.items[number]
        yield _signal(item, _samples(opened, number, scale, progress), scale)


def _layout(item: Item, base: Base, patch: tuple[int, ...]) -> Layout:
    spatial = len(item.shape) - 2
    if base.axes != spatial or (base.geometry == "sphere") != item.sphere or (len(patch) not in (0, 1, spatial)):
        raise InputError(f"damaged bitstream: the base network {base.name} is not for signals of {spatial} axes")
    axes = MODALITIES[item.modality].axes(item.metadata, item.shape) if item.sphere else ()
    if item.sphere and [len(axis) for axis in axes] != list(item.shape[1:-1]):
        raise InputError("damaged bitstream: latitudes and longitudes do not fit the samples")
    return layout(item.shape, item.scale.levels, patch, axes)


def _samples(opened: Opened, number: int, scale: int, progress: Progress) -> NDArray[np.generic]:
    stream, item = opened.stream, opened.stream.items[number]
    dtype = np.dtype(item.dtype).newbyteorder("=")
    if stream.header.method == "plain":
        return _inflated(stream.chunks[number], item.shape, dtype)
    if opened.base is not None:
        levels = decode_signal(opened.base, stream.header.bits, _codes(opened, number), opened.layouts[number], scale, progress)
    else:
        levels = _coin_levels(stream.chunks[number], item, scale)
    decoded = from_levels(levels, item.scale, dtype)
    if stream.header.guard == "none" or scale != 1:
        return decoded
    return decode_guard(Guard(stream.header.guard, stream.header.tolerance), stream.residuals[number], decoded, item.scale)


def _codes(opened: Opened, number: int) -> PatchCodes:
    """The codes of one item, from the chunks that hold them."""
    base, chunks = opened.base, opened.stream.chunks
    assert base is not None
    counts = [lay.patches(base) for lay in opened.layouts]
    total, first = sum(counts), sum(counts[:number])
    last = first + counts[number]
    parts = []
    for index in range(first // CHUNK, -(-last // CHUNK)):
        begin, count = index * CHUNK, min(CHUNK, total - index * CHUNK)
        codes = unpack_chunk(chunks[index], count, base.channels, base.tables[opened.stream.header.bits])
        parts.append(codes.part(max(first - begin, 0), min(last - begin, count)))
    return join(parts)


def _coin_levels(chunk: bytes, item: Item, scale: int) -> NDArray[np.int64]:
    shape = (item.shape[0], *(size * scale for size in item.shape[1:-1]), item.shape[-1])
    coordinates = coin_coordinates(item.shape, scale)
    symbols, width, depth = unpack_coin(chunk, coordinates.shape[1], item.shape[-1])
    network = coin.network(symbols, coordinates.shape[1], width, depth, item.shape[-1])
    return evaluate(network, coordinates, None, item.scale.levels)[0].reshape(shape)


def _inflated(data: bytes, shape: tuple[int, ...], dtype: np.dtype) -> NDArray[np.generic]:
    expected = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(data, expected + 1)
    except zlib.error:
        raise InputError("damaged bitstream: the samples cannot be inflated") from None
    if len(plain) != expected or not inflater.eof:
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
