"""Where samples lie, in integers of 2**-ACTIVATION_BITS: cells of a grid, or points on the globe."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.sines import ACTIVATION_BITS, SINE_BITS, sine
from compresskit.errors import InputError

_ANGLE_BITS = 24  # of a turn: 2 metres at the equator
_CIRCLE_BITS = 30  # of sines and cosines, so that a product of two fits in 64 bits


def grid(edges: tuple[int, ...], scale: int = 1) -> NDArray[np.int64]:
    """Centres of the cells of a grid that fills [-1, 1] in each dimension: (2 i + 1) / n - 1.

    Args:
        edges: cells in each dimension, at least 1.
        scale: how many times finer the grid is in each dimension.

    Returns:
        (cells, dims) in units of 2**-ACTIVATION_BITS, the last dimension fastest.
    """
    sizes = [edge * scale for edge in edges]
    points = np.empty((*sizes, len(sizes)), np.int64)
    for axis, size in enumerate(sizes):
        points[..., axis] = _centres(size).reshape(-1, *(1,) * (len(sizes) - axis - 1))
    return points.reshape(math.prod(sizes), len(sizes))


def sphere(latitudes: NDArray[np.float64], longitudes: NDArray[np.float64]) -> NDArray[np.int64]:
    """Points of a grid of latitudes and longitudes, in degrees, on the unit sphere.

    Returns:
        (latitudes x longitudes, 3) of (cos lat cos lon, cos lat sin lon, sin lat) in units of 2**-ACTIVATION_BITS, longitudes fastest.

    Raises:
        InputError: an angle is not a number of degrees within a turn.
    """
    (cos_lat, sin_lat), (cos_lon, sin_lon) = _circle(latitudes), _circle(longitudes)
    products = (np.outer(cos_lat, cos_lon), np.outer(cos_lat, sin_lon), np.outer(sin_lat, np.full_like(cos_lon, 1 << _CIRCLE_BITS)))
    drop = 2 * _CIRCLE_BITS - ACTIVATION_BITS
    return (np.stack(products, axis=-1).reshape(-1, 3) + (1 << drop - 1)) >> drop


def finer_latitudes(latitudes: NDArray[np.float64], scale: int) -> NDArray[np.float64]:
    """Centres of the cells of a grid `scale` times finer; the cells at the ends stop at the poles.

    Args:
        latitudes: (n,) degrees.
        scale: parts that each cell is cut into.

    Returns:
        (n * scale,) degrees.
    """
    pole = max(90.0, float(np.abs(latitudes).max()))
    return _subdivided(np.clip(_edges(latitudes), -pole, pole), scale) if scale != 1 else latitudes


def finer_longitudes(longitudes: NDArray[np.float64], scale: int) -> NDArray[np.float64]:
    """Likewise, around the globe: they rise or fall without the jump of a whole turn that `longitudes` may have."""
    return _subdivided(_edges(np.unwrap(longitudes, period=360)), scale) if scale != 1 else longitudes


def _edges(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n + 1,) ends of cells with these (n,) centres: half way between neighbours, and as far beyond the first and the last."""
    if len(centres) == 1:
        return np.repeat(centres, 2)
    between = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - between[0]], between, [2 * centres[-1] - between[-1]]])


def _subdivided(edges: NDArray[np.float64], scale: int) -> NDArray[np.float64]:
    """Centres of `scale` parts of each cell between (n + 1,) `edges`."""
    within = (2 * np.arange(scale) + 1) / (2 * scale)
    return (edges[:-1, None] + np.diff(edges)[:, None] * within).reshape(-1)


def _centres(size: int) -> NDArray[np.int64]:
    """(size,) centres, rounded half up."""
    numerators = (2 * np.arange(size, dtype=np.int64) + 1 - size) << ACTIVATION_BITS
    return (2 * numerators + size) // (2 * size)


def _circle(degrees: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cosines and sines in units of 2**-_CIRCLE_BITS."""
    degrees = np.asarray(degrees, np.float64)
    if not (np.abs(degrees) <= 360).all():
        raise InputError("a latitude or longitude is not a number from -360 to 360: axes must be in degrees")
    # A division and a scaling by a power of two: IEEE 754 leaves no choice in either.
    phases = np.floor(degrees / 360 * 2**_ANGLE_BITS + 0.5).astype(np.int64)
    quarter, drop = 1 << _ANGLE_BITS - 2, SINE_BITS - _CIRCLE_BITS
    cosines, sines = ([sine(int(phase) + turn, _ANGLE_BITS) + (1 << drop - 1) >> drop for phase in phases] for turn in (quarter, 0))
    return np.array(cosines, np.int64), np.array(sines, np.int64)
