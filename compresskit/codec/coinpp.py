"""COIN++ over whole signals: levels to patch codes and back (thesis, section 5.2).

levels (frames, *spatial, channels) --planes, tiles--> patches --fit--> latents --quantize--> codes --reconstruct--> levels
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.base import Base
from compresskit.codec.chunks import Frame
from compresskit.codec.coordinates import finer_latitudes, finer_longitudes, grid, sphere
from compresskit.codec.latentcode import LatentCode
from compresskit.codec.levels import Levels
from compresskit.codec.neighbours import places
from compresskit.codec.patchcode import (
    CHUNK,
    PatchCodes,
    at_a_time,
    fit_patches,
    join,
    patch_errors,
    quantize_patches,
    reconstruct,
)
from compresskit.codec.planes import narrow, planes, widen
from compresskit.codec.tiling import Tiling, cut, place, tiling
from compresskit.progress import SILENT, Progress

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Layout:
    """How the levels of one signal lie in patches.

    Attributes:
        shape: (frames, *spatial, channels).
        levels: how many there are.
        tiles: of a frame.
        axes: latitudes and longitudes of a signal on the globe, else ().
    """

    shape: tuple[int, ...]
    levels: int
    tiles: Tiling
    axes: tuple[NDArray[np.float64], ...] = ()

    @property
    def edges(self) -> tuple[int, ...]:
        """Of a patch."""
        return self.tiles.edges

    def grid(self, base: Base) -> tuple[int, ...]:
        """Planes, frames, and patches along each axis of a frame."""
        return (len(planes(self.shape[-1], base.channels)), self.shape[0], *self.tiles.counts)

    def patches(self, base: Base) -> int:
        """Patches of all frames and planes."""
        return math.prod(self.grid(base))

    def coordinates(self, scale: int = 1) -> Integers:
        """(N, dims) coordinates of a patch's points, on a grid `scale` times finer."""
        if not self.axes:
            return grid(self.tiles.edges, scale)
        latitudes, longitudes = self.axes
        # Extrapolated by half a cell, a longitude may lie beyond a whole turn.
        return sphere(finer_latitudes(latitudes, scale), np.fmod(finer_longitudes(longitudes, scale), 360) if scale != 1 else longitudes)

    def touched(self, base: Base, parts: Sequence[NDArray[np.int64]], scale: int = 1) -> NDArray[np.bool_]:
        """(patches,) which patches hold samples at `parts`, the positions of frames and along spatial axes `scale` times finer."""
        frames, *axes = parts
        cells = np.zeros((self.shape[0], *self.tiles.counts), np.bool_)
        patches = (np.unique(axis // (edge * scale)) for axis, edge in zip(axes, self.tiles.edges, strict=True))
        cells[np.ix_(frames, *patches)] = True
        return np.tile(cells.reshape(-1), len(planes(self.shape[-1], base.channels)))


def layout(shape: tuple[int, ...], levels: int, patch: tuple[int, ...], axes: tuple[NDArray[np.float64], ...] = ()) -> Layout:
    """Lay a signal out in patches of about the edges `patch`, () for whole frames; a globe is always whole."""
    spatial = shape[1:-1]
    edges = () if axes else tuple(patch) * len(spatial) if len(patch) == 1 else tuple(patch)
    return Layout(shape, levels, tiling(spatial, edges), axes)


def latent_code(base: Base, bits: float, *, progressive: bool) -> LatentCode:
    """How predicted latents of so many bits are coded, of a base network that expects something of them."""
    assert base.prior is not None
    return LatentCode(base.prior, bits, base.steps[bits], progressive)


def frame_of(base: Base, layouts: Sequence[Layout], firsts: Sequence[int], begin: int, end: int) -> Frame:
    """What is known of the chunk of the patches from `begin` to `end`, of all items' patches, before it is read.

    Args:
        base: the base network.
        layouts: of the items.
        firsts: the number of each item's first patch, and in the end the number of all.
        begin, end: of the chunk.
    """
    inside = slice(bisect_right(firsts, begin) - 1, bisect_left(firsts, end))  # of thousands of items, a chunk holds a few
    layouts, firsts = layouts[inside], firsts[inside.start : inside.stop + 1]
    items = np.searchsorted(firsts, np.arange(begin, end), side="right") - 1
    levels = np.array([lay.levels for lay in layouts], np.int64)[items]
    return Frame(base.channels, levels, places(firsts, [lay.grid(base) for lay in layouts], begin, end))


def fit_signal(base: Base, levels: NDArray[np.integer], lay: Layout, steps: int, progress: Progress = SILENT) -> NDArray[np.float32]:
    """Latents (patches, L) of all patches of `levels` (frames, *spatial, channels); patches of one level are left at zero."""
    found = []
    for block in _blocks(base, levels, lay):
        varied = _varied(block)
        latents = np.zeros((len(block), base.latents), np.float32)
        latents[varied] = fit_patches(base, lay, block[varied], lay.levels, steps)
        found.append(latents)
        progress.advance(len(block))
    return np.concatenate(found)


def signal_errors(
    base: Base, latents: NDArray[np.float32], levels: NDArray[np.integer], lay: Layout
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean squared errors (P,) of `latents` (P, L) in the range 0..1 of levels, and half their gradients (P, L); 0 for patches of one level."""
    begin, losses, gradients = 0, np.zeros(len(latents), np.float32), np.zeros_like(latents)
    for block in _blocks(base, levels, lay):
        chosen = begin + np.flatnonzero(_varied(block))
        losses[chosen], gradients[chosen] = patch_errors(base, lay, block[chosen - begin], lay.levels, latents[chosen])
        begin += len(block)
    return losses, gradients


def one_colour(base: Base, levels: NDArray[np.integer], lay: Layout) -> tuple[NDArray[np.bool_], Integers]:
    """(patches,) which are of one level in each channel, and (those patches, channels) these levels."""
    blocks = [(~_varied(block), block[:, 0]) for block in _blocks(base, levels, lay)]
    constant, first = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return constant, first[constant]


def quantize_signal(base: Base, latents: NDArray[np.int32], levels: NDArray[np.integer], lay: Layout) -> PatchCodes:
    """Codes of all patches, for their `latents` (P, L) in integers."""
    coordinates, begin, parts = lay.coordinates(), 0, []
    for block in _blocks(base, levels, lay):
        parts.append(quantize_patches(base, latents[begin : begin + len(block)], block, coordinates, lay.levels))
        begin += len(block)
    return join(parts)


def code_signal(
    base: Base, latents: NDArray[np.int32], levels: NDArray[np.integer], lay: Layout, progress: Progress = SILENT
) -> tuple[PatchCodes, Levels]:
    """Codes of all patches, for their `latents` (P, L) in integers, and the levels that they decode to."""
    codes = quantize_signal(base, latents, levels, lay)
    return codes, decode_signal(base, codes, lay, progress=progress)


def decode_signal(base: Base, codes: PatchCodes, lay: Layout, scale: int = 1, progress: Progress = SILENT) -> Levels:
    """Levels (frames, *spatial, channels) of a signal, on a grid `scale` times finer: what every decoder finds, to the bit."""
    tiles = _finer(lay.tiles, scale)
    frames, channels = lay.shape[0], lay.shape[-1]
    coordinates = lay.coordinates(scale)
    result = np.empty((frames, *tiles.spatial, channels), np.uint16)
    per_plane, at_once = frames * tiles.patches, at_a_time(base, len(coordinates))
    for index, plane in enumerate(planes(channels, base.channels)):
        for begin in range(0, per_plane, at_once):
            part = codes.part(index * per_plane + begin, index * per_plane + min(begin + at_once, per_plane))
            made = reconstruct(base, part, coordinates, lay.levels)
            place(narrow(made, plane.stop - plane.start), tiles, begin, result[..., plane])
            progress.advance(len(part))
    return result


def _finer(tiles: Tiling, scale: int) -> Tiling:
    return replace(tiles, spatial=tuple(size * scale for size in tiles.spatial), edges=tuple(edge * scale for edge in tiles.edges))


def _varied(block: Integers) -> NDArray[np.bool_]:
    """(P,) which of `block` (P, N, channels) are of more than one level."""
    return np.asarray((block != block[:, :1]).any(axis=(1, 2)))


def _blocks(base: Base, levels: NDArray[np.integer], lay: Layout) -> Iterator[Integers]:
    """All patches (about CHUNK, N, base channels), plane by plane, frame by frame."""
    frames = max(1, CHUNK // lay.tiles.patches)
    for plane in planes(lay.shape[-1], base.channels):
        for frame in range(0, lay.shape[0], frames):
            patches = cut(levels[frame : frame + frames, ..., plane], lay.tiles)
            for begin in range(0, len(patches), CHUNK):
                yield widen(patches[begin : begin + CHUNK], base.channels).astype(np.int64, copy=False)
