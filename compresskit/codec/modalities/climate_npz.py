"""Gridded data in `.npz`: arrays "lat" and "lon", and others whose last two axes have their lengths."""

from __future__ import annotations

import io
import zipfile

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.modalities.climate_fields import Contents, Field, array_field, using
from compresskit.data.files import reading
from compresskit.data.limits import Budget
from compresskit.data.npy import read_npy
from compresskit.errors import InputError
from compresskit.wording import listed, shown

LATITUDES = ("lat", "latitude", "lats", "latitudes")
LONGITUDES = ("lon", "longitude", "lons", "longitudes", "long")


def holds_grid(data: bytes) -> bool:
    """Whether an archive has arrays named as latitudes and longitudes are."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = {name.removesuffix(".npy").lower() for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    return not (names.isdisjoint(LATITUDES) or names.isdisjoint(LONGITUDES))


def read_npz(data: bytes, name: str, budget: Budget) -> Contents:
    """Every array of the archive; grids get the dimensions (..., "lat", "lon").

    Raises:
        InputError: damaged, over the budget, or without latitudes and longitudes.
    """
    with reading(name), zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [member for member in archive.namelist() if member.endswith(".npy")]
        arrays = {}
        for member in members:
            key = member.removesuffix(".npy")
            with archive.open(member) as stream:
                arrays[key] = read_npy(stream, f"{name}[{shown(key)}]", budget, kinds="biufUSMm")
    latitude, longitude = (_axis(arrays, names, name) for names in (LATITUDES, LONGITUDES))
    ends = (arrays[latitude].size, arrays[longitude].size)

    def dims(key: str, values: NDArray) -> tuple[str, ...]:
        if key in (latitude, longitude):
            return (key,)
        grid = values.ndim >= 2 and values.shape[-2:] == ends
        return (*map(str, range(values.ndim - 2)), latitude, longitude) if grid else ()

    return Contents("npz", tuple(array_field(key, values, dims(key, values)) for key, values in arrays.items()))


def write_npz(contents: Contents, name: str) -> bytes:
    """The archive, deflated.

    Raises:
        InputError: it cannot hold the contents.
    """
    buffer = io.BytesIO()
    with using("numpy", name), zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for field in contents.fields:
            # A fixed date: the same contents are the same bytes, at any time.
            member = zipfile.ZipInfo(f"{field.name}.npy")
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, _npy(field))
    return buffer.getvalue()


def _npy(field: Field) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, field.load(), allow_pickle=False)
    return buffer.getvalue()


def _axis(arrays: dict[str, NDArray], names: tuple[str, ...], name: str) -> str:
    for key, values in arrays.items():
        if key.lower() in names:
            if values.ndim != 1:
                raise InputError(f"{name}[{shown(key)}]: has {values.ndim} dimensions; expected one (for a rotated grid, save the array as .npy)")
            return key
    raise InputError(f"{name}: has no array {names[0]!r}; it has {listed(arrays) or 'none'}")
