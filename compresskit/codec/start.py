"""Where a fit begins: latents by one matrix product, of patches resampled to the grid that the base network was trained on.

Only encoding uses it: floats here change which latents are chosen, never what they decode to.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from compresskit.codec.base import Base

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def globe_axes(edges: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latitudes and longitudes [degrees] of the grid that base networks of the globe are trained on, from north to south and from 0 eastwards."""
    latitudes, longitudes = edges
    return 90 - 180 * (np.arange(latitudes) + 0.5) / latitudes, 360 * np.arange(longitudes) / longitudes


def amortised(base: Base, patches: Tensor, edges: tuple[int, ...], axes: tuple[NDArray[np.float64], ...]) -> Tensor:
    """Latents (P, L) near those that a fit will find.

    Args:
        base: the base network.
        patches: (P, N, channels) in 0..1.
        edges: of a patch.
        axes: latitudes and longitudes of whole globes, else ().
    """
    frames = patches.reshape(len(patches), *edges, patches.shape[-1])
    same = regridded(frames, axes, globe_axes(base.edges)) if axes else resampled(frames, base.edges)
    return same.flatten(1) @ torch.from_numpy(base.encoder) + torch.from_numpy(base.offset)


def resampled(frames: Tensor, edges: tuple[int, ...]) -> Tensor:
    """Frames (P, *spatial, channels) with the spatial sizes `edges`: means where there are fewer samples than before, else linear in between."""
    spatial = tuple(frames.shape[1:-1])
    if spatial == edges:
        return frames
    channels_first = frames.movedim(-1, 1)
    if math.prod(spatial) > math.prod(edges):
        return F.interpolate(channels_first, edges, mode="area").movedim(1, -1)
    return F.interpolate(channels_first, edges, mode=_LINEAR[len(edges)], align_corners=False).movedim(1, -1)


def regridded(frames: Tensor, axes: tuple[NDArray[np.float64], ...], wanted: tuple[NDArray[np.float64], ...]) -> Tensor:
    """Frames (P, lat, lon, channels) on other latitudes and longitudes, linear in between; longitudes wrap, poles repeat the last row."""
    latitudes, longitudes = axes
    order, east = np.argsort(latitudes), np.argsort(longitudes % 360)
    sorted_longitudes = (longitudes % 360)[east]
    around = np.concatenate([sorted_longitudes[-1:] - 360, sorted_longitudes, sorted_longitudes[:1] + 360])
    rows = np.interp(wanted[0], latitudes[order], np.arange(len(order)))
    columns = np.interp(wanted[1] % 360, around, np.arange(len(around)))
    ordered = frames[:, order.copy()][:, :, np.concatenate([east[-1:], east, east[:1]])]
    return _between(_between(ordered, rows, 1), columns, 2)


def _between(values: Tensor, positions: NDArray[np.float64], axis: int) -> Tensor:
    """`values` at fractional `positions` along `axis`."""
    before = np.clip(np.floor(positions).astype(np.int64), 0, max(values.shape[axis] - 2, 0))
    after = np.minimum(before + 1, values.shape[axis] - 1)
    share = torch.from_numpy(positions - before).float().reshape([-1 if index == axis else 1 for index in range(values.ndim)])
    return values.index_select(axis, torch.from_numpy(before)) * (1 - share) + values.index_select(axis, torch.from_numpy(after)) * share
