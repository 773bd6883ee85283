"""Which patches of a chunk lie next to each other, and in which order they are coded.

A patch has a place in the grid of its item: planes, frames, and the patches of a frame. A patch is coded in turn t where t of its
coordinates are odd: along each of these axes both its neighbours come one turn before it, along the others one turn after it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]

PLANES, FRAMES, SPATIAL = range(3)
"""Axes of the grid of an item: from SPATIAL on those of a frame."""

NONE = -1
"""In place of a neighbour: there is none, or it is in another chunk, or of one colour."""


@dataclass(frozen=True)
class Turn:
    """Patches that are coded together.

    Attributes:
        rows: (R,) which they are.
        earlier: (R, axes, 2) their neighbours of the turn before, or `NONE`.
        known: (R,) how many of these there are.
    """

    rows: Indices
    earlier: Indices
    known: Indices


@dataclass(frozen=True, eq=False)
class Places:
    """Where the patches of a chunk lie to each other.

    Attributes:
        turn: (P,) in which turn each is coded.
        near: (P, axes, 2) the neighbours before and after it along each axis, or `NONE`; axes along which no patch has any are left out.
        kinds: which axes these are: 0 planes, 1 frames, and from 2 on the spatial ones.
    """

    turn: Indices
    near: Indices
    kinds: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.turn)

    @property
    def axes(self) -> int:
        """Along how many axes patches have neighbours."""
        return self.near.shape[1]

    def only(self, kept: NDArray[np.bool_]) -> Places:
        """The patches that are `kept` (P,), under new numbers."""
        numbers = np.append(np.where(kept, np.cumsum(kept) - 1, NONE), NONE)
        return _compact(self.turn[kept], numbers[self.near[kept]], self.kinds)

    def turns(self) -> Iterator[Turn]:
        """The patches in their order."""
        for number in range(int(self.turn.max(initial=NONE)) + 1):
            rows = np.flatnonzero(self.turn == number)
            near = self.near[rows]
            earlier = np.where((near != NONE) & (self.turn[near] < number), near, NONE)
            if len(rows):
                yield Turn(rows, earlier, np.count_nonzero(earlier != NONE, axis=(1, 2)))


def places(firsts: Sequence[int], grids: Sequence[tuple[int, ...]], begin: int, end: int) -> Places:
    """The places of the patches with the numbers `begin` to `end`.

    Args:
        firsts: the number of each item's first patch, and in the end the number of all.
        grids: planes, frames and patches of a frame, along each axis, of each item.
        begin, end: of a chunk.
    """
    items = range(bisect_right(firsts, begin) - 1, bisect_left(firsts, end))
    axes = max(len(grids[item]) for item in items)
    turn, near = np.zeros(end - begin, np.int64), np.full((end - begin, axes, 2), NONE)
    for item in items:
        low, high = max(begin, firsts[item]), min(end, firsts[item + 1])
        if high - low > 1:
            part = slice(low - begin, high - begin)
            turn[part], near[part, : len(grids[item])] = _on_grid(grids[item], low - firsts[item], high - firsts[item], low - begin)
    return _compact(turn, near, tuple(range(axes)))


def _on_grid(grid: tuple[int, ...], low: int, high: int, offset: int) -> tuple[Indices, Indices]:
    """Turns (P,) and neighbours (P, axes, 2) of the patches from `low` to `high` of one item, whose first has the number `offset` in its chunk."""
    numbers = np.arange(low, high)
    coordinates = np.stack(np.unravel_index(numbers, grid), axis=1)
    strides = np.cumprod((1, *grid[:0:-1]))[::-1]
    before = np.where(coordinates > 0, numbers[:, None] - strides, NONE)
    after = np.where(coordinates < np.array(grid) - 1, numbers[:, None] + strides, NONE)
    near = np.stack([before, after], axis=2)
    return (coordinates & 1).sum(axis=1), np.where((near >= low) & (near < high), near - low + offset, NONE)


def _compact(turn: Indices, near: Indices, kinds: tuple[int, ...]) -> Places:
    used = (near != NONE).any(axis=(0, 2))
    return Places(turn, near[:, used], tuple(kind for kind, keep in zip(kinds, used, strict=True) if keep))
