"""Climate: grids of regular or Gaussian latitudes and longitudes in netCDF (the extra `climate`) and `.npz`.

    file --open--> fields --choose--> one grid, (..., lat, lon) --> samples (frames, lat, lon, 1)
                                      all that is no grid       --> metadata

Nothing is decoded: packed integers stay integers beside their scale_factor, times stay numbers beside their units.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.coordinates import finer_latitudes, finer_longitudes
from compresskit.codec.modalities.climate_fields import Contents, Field
from compresskit.codec.modalities.climate_metadata import Description, pack_description, unpack_description
from compresskit.codec.modalities.climate_netcdf import CLASSIC, HDF5, open_netcdf, write_netcdf
from compresskit.codec.modalities.climate_npz import LATITUDES, LONGITUDES, holds_grid, read_npz, write_npz
from compresskit.codec.modalities.climate_reshape import along_leading, continued, refined, taken
from compresskit.codec.modalities.modality import MODALITIES, Modality
from compresskit.codec.modalities.reshaping import crop, cropped_holes, refined_holes
from compresskit.codec.modalities.samples import with_holes, without_holes
from compresskit.codec.signal import Signal
from compresskit.data.limits import Budget
from compresskit.errors import InputError, UsageError
from compresskit.wording import listed, shown

_ZIP = b"PK\x03\x04"
_NORTH = {"degrees_north", "degree_north", "degrees_n", "degree_n", "degreesn", "degreen"}
_EAST = {"degrees_east", "degree_east", "degrees_e", "degree_e", "degreese", "degreee"}
_POLE = 90.001  # the last grid point of single-precision files may lie a little past it


@dataclass(frozen=True)
class _Grid:
    """The field to code, its axes on the globe, and where in its shape they are."""

    field: Field
    latitude: Field
    longitude: Field
    positions: tuple[int, int]

    @property
    def axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        latitudes, longitudes = (np.asarray(axis.load(), np.float64) for axis in (self.latitude, self.longitude))
        return latitudes, longitudes


class Climate(Modality):
    """One variable of a file; frames are all its steps in time, level and whatever else it has."""

    formats = ("nc", "npz")

    def sniff(self, data: bytes, name: str) -> str | None:
        """By the first bytes; an archive has to have latitudes and longitudes in it."""
        if (data.startswith(CLASSIC) and data[3:4] in (b"\1", b"\2", b"\5")) or data.startswith(HDF5):
            return "nc"
        return "npz" if data.startswith(_ZIP) and holds_grid(data) else None

    def read(self, data: bytes, format: str, *, name: str, variable: str | None, budget: Budget) -> Signal:
        """See `Modality.read`."""
        with _open(data, name, budget) as contents:
            grids = _grids(contents.fields)
            grid = _choose(grids, variable, name)
            axes = _checked_axes(grid, name)
            stored = np.moveaxis(grid.field.load(), grid.positions, (-2, -1))
            values = stored.reshape(-1, *stored.shape[-2:], 1)
            samples = without_holes(values, name, _declared_missing(values, grid.field))
            kept = tuple(field for field in contents.fields if field.name not in grids or field is grid.field)
            metadata = pack_description(Description(replace(contents, fields=kept), grid.field.name, samples.holes), name)
        found = "npz" if contents.kind == "npz" else "nc"
        return Signal(samples.values, "climate", found, samples.scale, samples.peak, metadata, samples.missing, axes, name)

    def write(self, signal: Signal, format: str) -> bytes:
        """The file with this one grid: same keys, attributes and coordinates; not the same bytes, since it is packed anew."""
        description = unpack_description(signal.metadata)
        contents = description.contents
        if (contents.kind == "npz") != (format == "npz"):
            raise UsageError(f"{signal.name}: came from {contents.kind} and cannot be written as {format}; leave the format out")
        grid = _described_grid(description, signal.values.shape)
        if signal.values.dtype != grid.field.dtype.newbyteorder("="):
            raise InputError(f"{signal.name}: damaged metadata: {grid.field.name} is of type {grid.field.dtype}, its samples {signal.values.dtype}")
        leading = [size for axis, size in enumerate(grid.field.shape) if axis not in grid.positions]
        values = with_holes(signal.values, signal.missing, description.holes).reshape(*leading, *signal.values.shape[1:3])
        stored = np.moveaxis(values, (-2, -1), grid.positions).astype(grid.field.dtype)
        restored = replace(contents, fields=tuple(replace(f, load=lambda: stored) if f is grid.field else f for f in contents.fields))
        return write_npz(restored, signal.name) if format == "npz" else write_netcdf(restored, signal.name)

    def axes(self, metadata: bytes, shape: tuple[int, ...]) -> tuple[NDArray[np.float64], ...]:
        """See `Modality.axes`."""
        return _described_grid(unpack_description(metadata), shape).axes

    def leading(self, metadata: bytes, shape: tuple[int, ...]) -> Mapping[str, int]:
        """See `Modality.leading`; an archive of arrays has numbers for names."""
        return _leading(_described_grid(unpack_description(metadata), shape))

    def refined_axes(self, axes: tuple[NDArray[np.float64], ...], scale: int) -> tuple[NDArray[np.float64], ...]:
        """See `Modality.refined_axes`."""
        latitudes, longitudes = axes
        return finer_latitudes(latitudes, scale), finer_longitudes(longitudes, scale)

    def cropped(self, signal: Signal, parts: Sequence[NDArray[np.int64]]) -> Signal:
        """See `Modality.cropped`: everything that lies along the cut dimensions is cut, and longitudes go on over the file's seam."""
        description = unpack_description(signal.metadata)
        grid = _described_grid(description, signal.values.shape)
        frames, rows, columns = parts
        indices = {grid.latitude.dims[0]: rows, grid.longitude.dims[0]: columns}
        fields = named = description.contents.fields
        if len(frames) < len(signal.values):
            leading = _leading(grid)
            indices |= _along(leading, frames, grid.field.name)
            if description.contents.kind == "npz":
                named = tuple(along_leading(field, leading) for field in fields)
        cut_fields = [replace(taken(field, indices), dims=original.dims) for field, original in zip(named, fields, strict=True)]
        if (np.diff(columns) < 0).any():
            cut_fields = [continued(field) if field.name == grid.longitude.name else field for field in cut_fields]
        contents = replace(description.contents, fields=tuple(cut_fields))
        kept = Description(contents, description.grid, cropped_holes(description.holes, signal, parts))
        cut = crop(signal, parts, pack_description(kept, signal.name))
        return replace(cut, axes=self.axes(cut.metadata, cut.values.shape))

    def refined(self, signal: Signal, scale: int) -> Signal:
        """See `Modality.refined`."""
        description = unpack_description(signal.metadata)
        frames, rows, columns, channels = signal.values.shape
        grid = _described_grid(description, (frames, rows // scale, columns // scale, channels))
        shape = tuple(size * scale if axis in grid.positions else size for axis, size in enumerate(grid.field.shape))
        axes = list(zip((grid.latitude, grid.longitude), self.refined_axes(grid.axes, scale), strict=True))
        contents = refined(description.contents, grid.field, shape, axes)
        kept = Description(contents, description.grid, refined_holes(description.holes, signal, scale))
        metadata = pack_description(kept, signal.name)
        return replace(signal, metadata=metadata, axes=self.axes(metadata, signal.values.shape))


@contextmanager
def _open(data: bytes, name: str, budget: Budget) -> Iterator[Contents]:
    if data.startswith(_ZIP):
        yield read_npz(data, name, budget)
    elif data.startswith((CLASSIC, HDF5)):
        with open_netcdf(data, name, budget) as contents:
            yield contents
    else:
        raise InputError(f"{name}: is neither netCDF (.nc) nor an archive of arrays (.npz)")


def _grids(fields: Sequence[Field]) -> dict[str, _Grid]:
    """The fields with one axis of latitudes and one of longitudes, by name."""
    latitudes = {field.dims[0]: field for field in fields if _is_axis(field, LATITUDES, _NORTH, "latitude")}
    longitudes = {field.dims[0]: field for field in fields if _is_axis(field, LONGITUDES, _EAST, "longitude")}
    grids = {}
    for field in fields:
        along = [(axis, dim) for axis, dim in enumerate(field.dims) if (dim in latitudes) != (dim in longitudes)]
        north, east = ([(axis, dim) for axis, dim in along if dim in lines] for lines in (latitudes, longitudes))
        if len(north) == len(east) == 1 and field.dtype.kind in "iuf" and field.dtype.itemsize <= 8:
            (i, latitude), (j, longitude) = north[0], east[0]
            grids[field.name] = _Grid(field, latitudes[latitude], longitudes[longitude], (i, j))
    return grids


def _is_axis(field: Field, names: tuple[str, ...], units: set[str], standard: str) -> bool:
    if len(field.dims) != 1 or field.dtype.kind not in "iuf":
        return False
    unit = field.attributes.get("units")
    told = isinstance(unit, str) and unit.strip().lower() in units
    return told or field.attributes.get("standard_name") == standard or field.name.lower() in names


def _choose(grids: dict[str, _Grid], variable: str | None, name: str) -> _Grid:
    if not grids:
        raise InputError(f"{name}: has no variable on latitudes and longitudes of one dimension each (for a rotated grid, save the array as .npy)")
    if variable is None and len(grids) > 1:
        raise UsageError(f"{name}: holds several variables, {listed(grids)}: choose one with --var")
    if variable is not None and variable not in grids:
        raise UsageError(f"{name}: has no variable {variable!r} on latitudes and longitudes; choose from {listed(grids)}")
    return grids[variable or next(iter(grids))]


def _checked_axes(grid: _Grid, name: str) -> tuple[NDArray[np.float64], ...]:
    latitudes, longitudes = grid.axes
    if not (np.isfinite(latitudes).all() and np.isfinite(longitudes).all() and np.abs(latitudes).max(initial=0) <= _POLE):
        raise InputError(f"{name}: {shown(grid.latitude.name)} or {shown(grid.longitude.name)} are no degrees; expected -90 to 90, and finite")
    return latitudes, longitudes


def _leading(grid: _Grid) -> dict[str, int]:
    """The dimensions beside latitudes and longitudes, and their lengths."""
    sizes = zip(grid.field.dims, grid.field.shape, strict=True)
    return {dim: size for axis, (dim, size) in enumerate(sizes) if axis not in grid.positions}


def _along(leading: Mapping[str, int], frames: NDArray[np.int64], name: str) -> dict[str, NDArray[np.int64]]:
    """The positions along each leading dimension that make up `frames`.

    Raises:
        UsageError: no such positions do.
    """
    sizes = tuple(leading.values())
    found = [np.unique(along) for along in np.unravel_index(frames % math.prod(sizes), sizes)]
    if not np.array_equal(np.ravel_multi_index(np.ix_(*found), sizes).reshape(-1), frames):
        raise UsageError(f"--region: these frames are no block of {shown(name)} along {listed(leading)}: leave them out")
    return dict(zip(leading, found, strict=True))


def _declared_missing(values: NDArray[np.generic], field: Field) -> NDArray[np.bool_] | None:
    """Where `values` are what the attributes _FillValue and missing_value say that nothing was measured there."""
    declared = [field.attributes.get(key) for key in ("_FillValue", "missing_value")]
    numbers = [number for value in declared if isinstance(value, np.ndarray) for number in value.reshape(-1)]
    masks = [values == number for number in numbers]
    return np.logical_or.reduce(masks) if masks else None


def _described_grid(description: Description, shape: tuple[int, ...]) -> _Grid:
    """The grid that a signal of `shape` came from.

    Raises:
        InputError: the metadata has none of that shape.
    """
    grid = _grids(description.contents.fields).get(description.grid)
    if grid is not None:
        rows, columns = (grid.field.shape[axis] for axis in grid.positions)
        lengths = grid.latitude.shape + grid.longitude.shape
        frames = math.prod(size for axis, size in enumerate(grid.field.shape) if axis not in grid.positions)
        if (frames, rows, columns, 1) == tuple(shape) and lengths == (rows, columns):
            return grid
    raise InputError(f"damaged metadata: {shown(description.grid)} does not fit samples of shape {tuple(shape)}")


MODALITIES.register("climate")(Climate())
