"""Files of gridded data with fewer, or with finer, latitudes and longitudes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.modalities.climate_fields import Contents, Field, array_field

Indices = NDArray[np.int64]
_TURN = 360.0


def taken(field: Field, indices: Mapping[str, Indices]) -> Field:
    """`field` with only the given positions along dimensions."""
    chosen = {axis: indices[dim] for axis, dim in enumerate(field.dims) if dim in indices}
    shape = tuple(len(chosen[axis]) if axis in chosen else size for axis, size in enumerate(field.shape))

    def load() -> NDArray:
        values = field.load()
        for axis, positions in chosen.items():
            values = np.take(values, positions, axis=axis)
        return values

    return replace(field, shape=shape, load=load)


def along_leading(field: Field, leading: Mapping[str, int]) -> Field:
    """`field` of an archive, which names no dimensions: an array of as many entries as one dimension of the grid is long goes along it."""
    along = [dim for dim, size in leading.items() if size > 1 and not field.dims and field.shape[:1] == (size,)]
    return replace(field, dims=(along[0], *[""] * (len(field.shape) - 1))) if len(along) == 1 else field


def continued(longitudes: Field) -> Field:
    """Longitudes from both sides of a file's seam without the jump of a turn, so that 350 .. 359, 0 .. 40 become -10 .. 40.

    A type that cannot hold them keeps the jump.
    """
    values = longitudes.load()
    degrees = values.astype(np.float64)
    turns = np.rint((np.unwrap(degrees, period=_TURN) - degrees) / _TURN)
    continuous = degrees + _TURN * turns
    continuous += _TURN * (float(continuous.min() < -_TURN) - float(continuous.max() > _TURN))
    if values.dtype.kind in "iu":
        room = np.iinfo(values.dtype)
        if continuous.min() < room.min or continuous.max() > room.max:
            return longitudes
    return replace(longitudes, load=lambda: continuous.astype(values.dtype))


def refined(contents: Contents, grid: Field, shape: tuple[int, ...], axes: Sequence[tuple[Field, NDArray[np.float64]]]) -> Contents:
    """Contents with a grid of another shape, and latitudes and longitudes of other values.

    Whatever else lies along these (bounds of cells, masks) belongs to the old cells, and is left out.
    """
    fields = []
    for field in contents.fields:
        values = next((values for axis, values in axes if axis is field), None)
        if field is grid:
            fields.append(replace(field, shape=shape))
        elif values is not None:
            fields.append(_axis(field, values))
        elif not set(field.dims) & {axis.dims[0] for axis, _ in axes}:
            fields.append(field)
    return replace(contents, fields=tuple(fields))


def _axis(field: Field, values: NDArray[np.float64]) -> Field:
    """`field` with other values, in floats."""
    dtype = field.dtype if field.dtype.kind == "f" else np.result_type(field.dtype, np.float32)
    attributes = {key: value for key, value in field.attributes.items() if key != "bounds"}
    return array_field(field.name, values.astype(dtype), field.dims, attributes)
