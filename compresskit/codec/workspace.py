"""What decoding takes, memory and time, estimated before anything is allocated: a few bytes may declare many samples, or a vast network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from compresskit.codec.coin import tensor_shapes
from compresskit.codec.coinpayload import read_sizes
from compresskit.codec.exact import OUTPUT
from compresskit.codec.latentprior import FEATURES
from compresskit.codec.limits import StreamLimits
from compresskit.codec.neighbours import SPATIAL
from compresskit.codec.opened import Opened
from compresskit.codec.patchcode import at_a_time
from compresskit.codec.prior import WIDEST
from compresskit.codec.regions import Positions
from compresskit.codec.stream import Item
from compresskit.codec.varint import Cursor
from compresskit.errors import InputError
from compresskit.wording import human

LEVEL_BYTES = 2
POINT_BYTES = 8
"""Of a coordinate, and of each of what is computed at a point at most."""

GUARD_BYTES = 88
"""Of a sample, while its residual is decoded: measured, of a line, where it is most."""

MASK_BYTES = 2
SINE_MACS = 32
"""Multiply-accumulates of float64 in the time of one sine, measured: so much as 2 to 3 ns at 12 a ns."""

SHIFT_MACS = 8
"""Likewise, in the time of one of the integers of which modulations are made."""

_COPIES = 2  # of symbols
_COLOUR_COPIES = 4  # of patches of one colour
_PREDICTED_COPIES = 5  # of latents: values, what is guessed of them, what neighbours have, and between them
_BAND_COPIES = 8  # of a band of latents: magnitudes expected, guesses, contexts, tokens, and between them


def check_memory(opened: Opened, chosen: Sequence[int], scale: int, limits: StreamLimits) -> None:
    """Check that the items with the numbers `chosen` can be decoded within `limits`, on grids `scale` times finer.

    Raises:
        InputError: they cannot.
    """
    items = opened.stream.items
    samples = sum(_samples(items[number], scale) * _itemsize(items[number]) for number in chosen)
    needed = samples + max(working_bytes(opened, number, scale) for number in chosen) + _latent_bytes(opened)
    if needed > limits.max_bytes:
        raise InputError(f"decoding takes {human(needed)} of memory, over {human(limits.max_bytes)}; if that is meant, raise --max-memory")


def working_bytes(opened: Opened, number: int, scale: int) -> int:
    """About the bytes that one item takes while it is decoded, beside its samples."""
    header, item = opened.stream.header, opened.stream.items[number]
    samples = _samples(item, scale)
    mask = MASK_BYTES * samples if item.missing else 0
    if header.method == "plain":
        return samples * _itemsize(item) + mask
    spatial = len(item.shape) - 2
    points, symbols = samples // item.shape[-1], 0
    if opened.base is not None:
        lay = opened.layouts[number]
        points = lay.tiles.points * scale**spatial
        symbols = _COPIES * 4 * opened.base.latents * lay.patches(opened.base)
    guard = GUARD_BYTES * samples if opened.guarded(scale) else 0
    return LEVEL_BYTES * samples + POINT_BYTES * (spatial + 2) * points + symbols + guard + mask


def _latent_bytes(opened: Opened) -> int:
    """About the bytes of a chunk's latents while they are decoded together, with what neighbours know: of one of symbols, little."""
    base = opened.base
    if base is None or (base.prior is None and not opened.progressive):
        return 0
    patches, axes = min(opened.chunk_size, opened.first_patches[-1]), max(map(len, opened.grids))
    if base.prior is not None:
        looked_at = 4 * (axes - SPATIAL) * FEATURES
        return POINT_BYTES * patches * (_PREDICTED_COPIES * base.latents + looked_at + _COLOUR_COPIES * base.channels)
    return POINT_BYTES * patches * (_COPIES * base.latents + 2 * axes * (WIDEST + 1) + _BAND_COPIES * WIDEST + _COLOUR_COPIES * base.channels)


def check_work(opened: Opened, chosen: Sequence[int], scale: int, parts: Mapping[int, Positions], limits: StreamLimits) -> None:
    """Check that the items with the numbers `chosen`, or their `parts`, can be decoded within `limits`, on grids `scale` times finer.

    Raises:
        InputError: they cannot.
    """
    needed = sum(work(opened, number, scale, parts.get(number)) for number in chosen)
    if needed > limits.max_macs:
        raise InputError(f"decoding takes {needed:.3g} multiply-accumulates, over {limits.max_macs:.3g}; if that is meant, raise --max-macs")


def work(opened: Opened, number: int, scale: int, parts: Positions | None = None) -> int:
    """The multiply-accumulates that one item takes at most, sines counted as so many of them: a patch of one colour takes none.

    Raises:
        InputError: the item is damaged.
    """
    stream, item = opened.stream, opened.stream.items[number]
    if stream.header.method == "plain":
        return 0
    spatial = len(item.shape) - 2
    if opened.base is None:
        width, depth, _ = read_sizes(Cursor(stream.chunks[number]))
        weights = tensor_shapes(spatial + (item.shape[0] > 1), width, depth, item.shape[-1])[::2]
        macs = sum(map(math.prod, weights))
        return _samples(item, scale) // item.shape[-1] * (macs + SINE_MACS * width * depth)
    base, lay, touched = opened.base, opened.layouts[number], opened.touched(number, parts, scale)
    patches = lay.patches(base) if touched is None else int(np.count_nonzero(touched))
    points, output = lay.tiles.points * scale**spatial, base.network.layers[-1].weight.size
    hidden = base.network.macs - output + SINE_MACS * base.network.width * base.network.hidden
    apart = 0 if base.part == OUTPUT else hidden  # of a patch; modulated behind them, hidden layers are the same for all that are computed together
    planes, *plane = lay.grid(base)
    together = min(patches, planes * -(-math.prod(plane) // at_a_time(base, points)))
    return together * points * (hidden - apart) + patches * (points * (apart + output) + SHIFT_MACS * base.mapping.size)


def _samples(item: Item, scale: int) -> int:
    return math.prod(item.shape) * int(scale) ** (len(item.shape) - 2)


def _itemsize(item: Item) -> int:
    return np.dtype(item.dtype).itemsize
