"""COIN++ over whole signals: levels to patch codes and back (thesis, section 5.2).

levels (frames, *spatial, channels) --planes, tiles--> patches --fit--> latents --quantize--> codes --reconstruct--> levels
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.base import Base
from compresskit.codec.coordinates import grid, sphere
from compresskit.codec.patchcode import CHUNK, PatchCodes, fit_patches, fit_points, join, modulated, quantize_patches, reconstruct, split
from compresskit.codec.planes import narrow, planes, widen
from compresskit.codec.tiling import Tiling, cut, paste, tiling
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

    def patches(self, base: Base) -> int:
        """Patches of all frames and planes."""
        return len(planes(self.shape[-1], base.channels)) * self.shape[0] * self.tiles.patches

    def coordinates(self, scale: int = 1) -> Integers:
        """(N, dims) coordinates of a patch's points, on a grid `scale` times finer."""
        return sphere(*self.axes) if self.axes else grid(self.tiles.edges, scale)


def layout(shape: tuple[int, ...], levels: int, patch: tuple[int, ...], axes: tuple[NDArray[np.float64], ...] = ()) -> Layout:
    """Lay a signal out in patches of about the edges `patch`, () for whole frames; a globe is always whole."""
    spatial = shape[1:-1]
    edges = () if axes else tuple(patch) * len(spatial) if len(patch) == 1 else tuple(patch)
    return Layout(shape, levels, tiling(spatial, edges), axes)


def fit_signal(base: Base, levels: Integers, lay: Layout, steps: int, progress: Progress = SILENT) -> NDArray[np.float32]:
    """Latents (patches, L) of all patches of `levels` (frames, *spatial, channels); patches of one level are left at zero."""
    coordinates = lay.coordinates()
    chosen = fit_points(len(coordinates))
    network, found = modulated(base), []
    for block in _blocks(base, levels, lay):
        block = block[:, chosen]
        varied = (block != block[:, :1]).any(axis=(1, 2))
        latents = np.zeros((len(block), base.latents), np.float32)
        latents[varied] = fit_patches(network, coordinates[chosen], block[varied], lay.levels, steps)
        found.append(latents)
        progress.advance(len(block))
    return np.concatenate(found)


def quantize_signal(base: Base, bits: int, latents: NDArray[np.float32], levels: Integers, lay: Layout) -> PatchCodes:
    """Codes of all patches, for their latents."""
    coordinates, begin, parts = lay.coordinates(), 0, []
    for block in _blocks(base, levels, lay):
        parts.append(quantize_patches(base, bits, latents[begin : begin + len(block)], block, coordinates, lay.levels))
        begin += len(block)
    return join(parts)


def decode_signal(base: Base, bits: int, codes: PatchCodes, lay: Layout, scale: int = 1, progress: Progress = SILENT) -> Integers:
    """Levels (frames, *spatial, channels) of a signal, on a grid `scale` times finer: what every decoder finds, to the bit."""
    tiles = _finer(lay.tiles, scale)
    frames, channels = lay.shape[0], lay.shape[-1]
    coordinates = lay.coordinates(scale)
    result = np.empty((frames, *tiles.spatial, channels), np.int64)
    per_frame, blocks = tiles.patches, list(split(codes, max(CHUNK, 1)))
    made = np.concatenate([_made(base, bits, block, coordinates, lay.levels, progress) for block in blocks])
    for index, plane in enumerate(planes(channels, base.channels)):
        part = made[index * frames * per_frame : (index + 1) * frames * per_frame].astype(np.int64)
        result[..., plane] = narrow(paste(part, tiles, frames), plane.stop - plane.start)
    return result


def _made(base: Base, bits: int, codes: PatchCodes, coordinates: Integers, levels: int, progress: Progress) -> NDArray[np.uint16]:
    """Levels fit in 16 bits, and all patches of a signal are held at once."""
    made = reconstruct(base, bits, codes, coordinates, levels).astype(np.uint16)
    progress.advance(len(codes))
    return made


def _finer(tiles: Tiling, scale: int) -> Tiling:
    return replace(tiles, spatial=tuple(size * scale for size in tiles.spatial), edges=tuple(edge * scale for edge in tiles.edges))


def _blocks(base: Base, levels: Integers, lay: Layout) -> Iterator[Integers]:
    """All patches (about CHUNK, N, base channels), plane by plane, frame by frame."""
    at_a_time = max(1, CHUNK // lay.tiles.patches)
    for plane in planes(lay.shape[-1], base.channels):
        for frame in range(0, lay.shape[0], at_a_time):
            patches = cut(levels[frame : frame + at_a_time, ..., plane], lay.tiles)
            for begin in range(0, len(patches), CHUNK):
                yield widen(patches[begin : begin + CHUNK], base.channels)
