"""Parts of signals, and finer grids: networks decode anywhere, at any resolution."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.modalities import MODALITIES
from compresskit.codec.signal import Signal
from compresskit.codec.stream import Item
from compresskit.errors import UsageError
from compresskit.wording import listed

_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)"
_PAIR = re.compile(rf"(\w[\w.-]*)=({_NUMBER}):({_NUMBER})")
_FRAMES = "t"
_TURN = 360.0
_SLACK = 1e-4  # degrees that an axis in single precision may be off the number that was meant

Region = Mapping[str, tuple[float, float]]
Positions = tuple[NDArray[np.int64], ...]
"""Of the frames and along each spatial axis, which samples are wanted, on the finer grid where there is one."""


def parse_region(text: str) -> Region:
    """Read "lat=30:60,lon=-10:40,member=0:2".

    Raises:
        UsageError: it is not written so.
    """
    found: dict[str, tuple[float, float]] = {}
    for part in text.split(","):
        match = _PAIR.fullmatch(part.strip())
        if match is None:
            raise UsageError(
                f"--region {text!r}: expected axis=from:to pairs with commas between them, of lat, lon, x, y, z, t and the file's dimensions"
            )
        if match[1] in found:
            raise UsageError(f"--region {text!r}: {match[1]} is given twice: give each axis one range")
        found[match[1]] = (float(match[2]), float(match[3]))
    return found


def positions(region: Region, item: Item, scale: int = 1) -> Positions:
    """Where `region` lies in an item that is decoded on a grid `scale` times finer.

    Ends in samples are of the grid that was encoded, and like Python's: the last is left out. Ends in degrees belong to the region.

    Raises:
        UsageError: the item has no such axis, it ends before the region does, or nothing of it lies there.
    """
    modality = MODALITIES[item.modality]
    names = modality.dimensions(len(item.shape) - 2)
    axes = modality.axes(item.metadata, item.shape)
    degrees = dict(zip(("lat", "lon"), modality.refined_axes(axes, scale) if axes else (), strict=False))
    # A dimension of the file that has the name of an axis cannot be told from it.
    leading = {name: size for name, size in modality.leading(item.metadata, item.shape).items() if name not in (*names[1:], *degrees)}
    _check_names(region, [*names, *degrees, *(name for name in leading if name != _FRAMES)], item.modality)
    found = [
        _of_samples(name, region.get(name), size, scale if axis else 1) for axis, (name, size) in enumerate(zip(names, item.shape[:-1], strict=True))
    ]
    if leading and math.prod(leading.values()) == item.shape[0]:
        found[0] = _of_frames(region, leading)
    for axis, (name, values) in enumerate(degrees.items(), start=1):
        if name in region:
            low, high = region[name]
            found[axis] = _of_latitudes(values, low, high) if name == "lat" else _of_longitudes(values, low, high)
    return tuple(found)


def cut_out(signal: Signal, parts: Positions) -> Signal:
    """The samples of a signal at `parts`, as a signal of the same kind.

    Raises:
        UsageError: data of this kind cannot be cut there.
    """
    return MODALITIES[signal.modality].cropped(signal, parts)


def refined(signal: Signal, scale: int) -> Signal:
    """A signal that was decoded on a grid `scale` times finer, with metadata and axes that say so.

    Raises:
        UsageError: data of this kind cannot say so.
    """
    return MODALITIES[signal.modality].refined(signal, scale) if scale != 1 else signal


def _check_names(region: Region, known: Sequence[str], modality: str) -> None:
    for name in region:
        if name not in known:
            raise UsageError(f"--region {name}=...: {modality} data has no such axis: give {', '.join(known)}")
    for pair in (("lat", "y"), ("lon", "x")):
        if set(pair) <= set(region):
            raise UsageError(f"--region: {pair[0]} and {pair[1]} are one axis: give one of them")


def _of_frames(region: Region, leading: Mapping[str, int]) -> NDArray[np.int64]:
    """Frames within the ranges of the dimensions that they go along; t is the only one that is longer than 1."""
    longer = [name for name, size in leading.items() if size > 1] or list(leading)
    if _FRAMES in region and _FRAMES not in leading:
        if len(longer) > 1:
            raise UsageError(f"--region t=...: the data have the dimensions {listed(longer)}: name one of them, as in {longer[0]}=0:1")
        if longer[0] in region:
            raise UsageError(f"--region: t and {longer[0]} are one axis: give one of them")
        region = {**region, longer[0]: region[_FRAMES]}
    ranges = [_of_samples(name, region.get(name), size, 1) for name, size in leading.items()]
    return np.ravel_multi_index(np.ix_(*ranges), tuple(leading.values())).reshape(-1).astype(np.int64)


def _of_samples(name: str, ends: tuple[float, float] | None, size: int, scale: int) -> NDArray[np.int64]:
    """Positions of the samples from the first end up to the second, on a grid `scale` times finer."""
    first, last = ends or (0, size)
    if not (first == int(first) and last == int(last) and 0 <= first < last <= size):
        raise UsageError(f"--region {name}={first:g}:{last:g} is no range of samples: {name} goes from 0 to {size}")
    return np.arange(int(first) * scale, int(last) * scale, dtype=np.int64)


def _of_latitudes(latitudes: NDArray[np.float64], low: float, high: float) -> NDArray[np.int64]:
    found = np.flatnonzero((latitudes >= low - _SLACK) & (latitudes <= high + _SLACK))
    if not len(found):
        raise UsageError(f"--region lat={low:g}:{high:g} holds no latitude: they go from {latitudes.min():g} to {latitudes.max():g}")
    return found.astype(np.int64)


def _of_longitudes(longitudes: NDArray[np.float64], low: float, high: float) -> NDArray[np.int64]:
    """Eastwards from `low` to `high`, in the file's order; where its seam lies within, from the column after the gap on, and around."""
    width = high - low if high >= low else (high - low) % _TURN
    inside = np.mod(longitudes - low + _SLACK, _TURN) <= width + 2 * _SLACK
    found = np.flatnonzero(inside)
    if not len(found):
        raise UsageError(f"--region lon={low:g}:{high:g} holds no longitude: they go from {longitudes.min():g} to {longitudes.max():g}")
    if inside[0] and inside[-1] and not inside.all():
        start = int(np.flatnonzero(~inside)[-1]) + 1
        found = np.concatenate([found[found >= start], found[found < start]])
    return found.astype(np.int64)
