"""Signals cut into patches, and put together again (thesis, section 5.2.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tiling:
    """How one frame is cut.

    Attributes:
        spatial: its size.
        edges: of a patch; the last patches along an axis may reach beyond the frame.
        counts: patches along each axis.
    """

    spatial: tuple[int, ...]
    edges: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def patches(self) -> int:
        """Patches of a frame."""
        return math.prod(self.counts)

    @property
    def points(self) -> int:
        """Points of a patch."""
        return math.prod(self.edges)


def tiling(spatial: tuple[int, ...], patch: tuple[int, ...]) -> Tiling:
    """Cut a frame into patches of about the edges `patch`, all of one size, with as little beyond the frame as that allows.

    Args:
        spatial: size of the frame.
        patch: the edges wanted, one for each axis; () for one patch.
    """
    counts = [max(1, (2 * size + edge) // (2 * edge)) for size, edge in zip(spatial, patch or spatial, strict=True)]
    edges = [-(-size // count) for size, count in zip(spatial, counts, strict=True)]
    counts = [-(-size // edge) for size, edge in zip(spatial, edges, strict=True)]
    return Tiling(spatial, tuple(edges), tuple(counts))


def cut(values: NDArray[np.integer], tiles: Tiling) -> NDArray[np.integer]:
    """Patches (frames x patches, N, channels) of `values` (frames, *spatial, channels); beyond the frame its edge goes on."""
    axes = len(tiles.spatial)
    beyond = [(0, edge * count - size) for size, edge, count in zip(tiles.spatial, tiles.edges, tiles.counts, strict=True)]
    padded = np.pad(values, [(0, 0), *beyond, (0, 0)], mode="edge") if any(after for _, after in beyond) else values
    split = [length for count, edge in zip(tiles.counts, tiles.edges, strict=True) for length in (count, edge)]
    blocks = padded.reshape(len(values), *split, values.shape[-1])
    order = [0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1]
    return blocks.transpose(order).reshape(-1, tiles.points, values.shape[-1])


def place(patches: NDArray[np.integer], tiles: Tiling, first: int, into: NDArray[np.integer]) -> None:
    """Put `patches` (P, N, channels) where `cut` found them.

    Args:
        patches: a run of those that `cut` made.
        tiles: how it cut.
        first: the number of the first of them.
        into: (frames, *spatial, channels).
    """
    blocks = patches.reshape(-1, *tiles.edges, patches.shape[-1])
    numbers = np.arange(first, first + len(blocks))
    where = np.stack(np.unravel_index(numbers, (len(into), *tiles.counts)), axis=-1).tolist()
    for block, (frame, *corner) in zip(blocks, where, strict=True):
        target = into[(frame, *(slice(at * edge, (at + 1) * edge) for at, edge in zip(corner, tiles.edges, strict=True)))]
        target[...] = block[tuple(map(slice, target.shape))]
