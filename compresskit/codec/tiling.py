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


def cut(values: NDArray[np.int64], tiles: Tiling) -> NDArray[np.int64]:
    """Patches (frames x patches, N, channels) of `values` (frames, *spatial, channels); beyond the frame its edge goes on."""
    axes = len(tiles.spatial)
    beyond = [(0, edge * count - size) for size, edge, count in zip(tiles.spatial, tiles.edges, tiles.counts, strict=True)]
    padded = np.pad(values, [(0, 0), *beyond, (0, 0)], mode="edge") if any(after for _, after in beyond) else values
    split = [length for count, edge in zip(tiles.counts, tiles.edges, strict=True) for length in (count, edge)]
    blocks = padded.reshape(len(values), *split, values.shape[-1])
    order = [0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1]
    return blocks.transpose(order).reshape(-1, tiles.points, values.shape[-1])


def paste(patches: NDArray[np.int64], tiles: Tiling, frames: int) -> NDArray[np.int64]:
    """The frames (frames, *spatial, channels) that `cut` made `patches` (frames x patches, N, channels) of."""
    axes, channels = len(tiles.spatial), patches.shape[-1]
    blocks = patches.reshape(frames, *tiles.counts, *tiles.edges, channels)
    order = [0, *(axis for pair in zip(range(1, axes + 1), range(axes + 1, 2 * axes + 1), strict=True) for axis in pair), 2 * axes + 1]
    whole = [count * edge for count, edge in zip(tiles.counts, tiles.edges, strict=True)]
    joined = blocks.transpose(order).reshape(frames, *whole, channels)
    return joined[(slice(None), *(slice(size) for size in tiles.spatial))]
