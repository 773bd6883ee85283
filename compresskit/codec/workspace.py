"""What decoding needs beside the stream, estimated before anything is allocated: a few bytes may declare many samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from compresskit.codec.decoder import Opened
from compresskit.codec.limits import StreamLimits
from compresskit.codec.stream import Item
from compresskit.errors import InputError
from compresskit.wording import human

LEVEL_BYTES = 2
POINT_BYTES = 8
"""Of a coordinate, and of each of what is computed at a point at most."""

GUARD_BYTES = 88
"""Of a sample, while its residual is decoded: measured, of a line, where it is most."""

MASK_BYTES = 2
_COPIES = 2  # of symbols


def check_memory(opened: Opened, chosen: Sequence[int], scale: int, limits: StreamLimits) -> None:
    """Check that the items with the numbers `chosen` can be decoded within `limits`, on grids `scale` times finer.

    Raises:
        InputError: they cannot.
    """
    items = opened.stream.items
    samples = sum(_samples(items[number], scale) * _itemsize(items[number]) for number in chosen)
    needed = samples + max(working_bytes(opened, number, scale) for number in chosen)
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
    guard = GUARD_BYTES * samples if header.guard != "none" and scale == 1 else 0
    return LEVEL_BYTES * samples + POINT_BYTES * (spatial + 2) * points + symbols + guard + mask


def _samples(item: Item, scale: int) -> int:
    return math.prod(item.shape) * int(scale) ** (len(item.shape) - 2)


def _itemsize(item: Item) -> int:
    return np.dtype(item.dtype).itemsize
