"""netCDF, version 3 through SciPy and version 4 through h5netcdf: both hand over and take what is in the file, unconverted.

Formats: https://docs.unidata.ucar.edu/netcdf-c/current/file_format_specifications.html
"""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.modalities.climate_fields import Attribute, Contents, Field, using
from compresskit.data.limits import Budget
from compresskit.errors import InputError
from compresskit.wording import shown

CLASSIC, HDF5 = b"CDF", b"\x89HDF\r\n\x1a\n"
_CLASSIC_KINDS = {1: "netcdf3", 2: "netcdf3-64bit"}


@contextmanager
def open_netcdf(data: bytes, name: str, budget: Budget) -> Iterator[Contents]:
    """The contents of a file; arrays can be loaded while it is open.

    Raises:
        UsageError: the packages that read it are not installed.
        InputError: it is damaged, over the budget, or uses what cannot be restored.
    """
    with _open_classic(data, name, budget) if data.startswith(CLASSIC) else _open_hdf5(data, name, budget) as contents:
        yield contents


def write_netcdf(contents: Contents, name: str) -> bytes:
    """A file of the version that `contents` came from.

    Raises:
        UsageError: the packages that write it are not installed.
        InputError: the version cannot hold the contents.
    """
    return _write_hdf5(contents, name) if contents.kind == "netcdf4" else _write_classic(contents, name)


@contextmanager
def _open_classic(data: bytes, name: str, budget: Budget) -> Iterator[Contents]:
    version = data[3] if len(data) > 3 else 0
    if version not in _CLASSIC_KINDS:
        raise InputError(f"{name}: is netCDF-3 of version {version}; expected 1 or 2 (convert it with nccopy -k nc4)")
    budget.take(len(data), name)  # SciPy reads all of it when it opens it
    with using("scipy", name):
        from scipy.io import netcdf_file

        with netcdf_file(io.BytesIO(data), "r", mmap=False) as file:
            fields = tuple(
                Field(key, item.dimensions, item.shape, item.data.dtype, _getter(item.data), _attributes(item._attributes, f"{name}[{shown(key)}]"))
                for key, item in file.variables.items()
            )
            unlimited = tuple(key for key, size in file.dimensions.items() if size is None)
            yield Contents(_CLASSIC_KINDS[version], fields, _attributes(file._attributes, name), unlimited)


def _write_classic(contents: Contents, name: str) -> bytes:
    version = {kind: version for version, kind in _CLASSIC_KINDS.items()}[contents.kind]
    buffer = io.BytesIO()
    with using("scipy", name):
        from scipy.io import netcdf_file

        with netcdf_file(buffer, "w", version=version) as file:
            sizes = {**dict.fromkeys(contents.unlimited), **_dimensions(contents)}  # SciPy wants the unlimited one first
            for dimension, size in sizes.items():
                file.createDimension(dimension, None if dimension in contents.unlimited else size)
            for field in contents.fields:
                variable = file.createVariable(field.name, field.dtype, field.dims)
                variable[slice(None) if field.shape else ...] = field.load()  # a slice makes an unlimited dimension grow
                # Not setattr: an attribute "shape" or "data" would replace the variable's own.
                variable._attributes.update(_classic_attributes(field.attributes))
            file._attributes.update(_classic_attributes(contents.attributes))
            file.flush()
            return buffer.getvalue()


@contextmanager
def _open_hdf5(data: bytes, name: str, budget: Budget) -> Iterator[Contents]:
    with using("h5netcdf", name):
        import h5netcdf
        import h5py

        with h5py.File(io.BytesIO(data), "r") as container:
            # h5netcdf's first step, where one that fails on it would print a traceback later, when it is collected.
            container.attrs.get("_nc3_strict")
            with h5netcdf.File(container, "r") as file:
                yield _hdf5_contents(file, name, budget)


def _hdf5_contents(file: Any, name: str, budget: Budget) -> Contents:
    if file.groups:
        raise InputError(f"{name}: has groups ({shown(next(iter(file.groups)))}); expected all variables in the root group")
    fields = tuple(_hdf5_field(key, item, name, budget) for key, item in file.variables.items())
    unlimited = tuple(key for key, dimension in file.dimensions.items() if dimension.isunlimited())
    deflated = tuple(key for key, item in file.variables.items() if item.compression)
    return Contents("netcdf4", fields, _attributes(file.attrs, name), unlimited, deflated)


def _hdf5_field(key: str, item: Any, name: str, budget: Budget) -> Field:
    label = f"{name}[{shown(key)}]"
    texts = item.dtype is str or np.dtype(item.dtype).kind == "O"
    dtype = np.dtype(object if texts else item.dtype)
    if dtype.names or dtype.kind not in "iufSO":
        raise InputError(f"{label}: is of type {dtype}; expected numbers or texts")
    shape = tuple(map(int, item.shape))

    def load() -> NDArray:
        budget.take(math.prod(shape) * dtype.itemsize, label)
        with using("h5netcdf", label):
            values = np.asarray(item[...])
            return np.asarray([_text(text) for text in values.reshape(-1)], object).reshape(shape) if texts else values.astype(dtype, copy=False)

    return Field(key, tuple(item.dimensions), shape, dtype, load, _attributes(item.attrs, label))


def _write_hdf5(contents: Contents, name: str) -> bytes:
    with using("h5netcdf", name), tempfile.TemporaryDirectory() as folder:
        import h5netcdf
        import h5py

        path = Path(folder) / "file.nc"
        with h5netcdf.File(path, "w") as file:
            for dimension, size in _dimensions(contents).items():
                file.dimensions[dimension] = None if dimension in contents.unlimited else size
                if dimension in contents.unlimited:
                    file.resize_dimension(dimension, size)
            for field in contents.fields:
                attributes = dict(field.attributes)
                dtype = h5py.string_dtype() if field.dtype.kind == "O" else field.dtype
                packing = {"compression": "gzip", "shuffle": True} if field.name in contents.deflated else {}
                variable = file.create_variable(field.name, field.dims, dtype, fillvalue=attributes.pop("_FillValue", None), **packing)
                variable[...] = field.load()
                variable.attrs.update(_hdf5_attributes(attributes))
            file.attrs.update(_hdf5_attributes(contents.attributes))
        return path.read_bytes()


def _dimensions(contents: Contents) -> dict[str, int]:
    return {dimension: size for field in contents.fields for dimension, size in zip(field.dims, field.shape, strict=True)}


def _getter(values: NDArray) -> Callable[[], NDArray]:
    return lambda: values


def _attributes(stored: Mapping[str, Any], label: str) -> dict[str, Attribute]:
    return {key: _attribute(value, f"{label}: attribute {shown(key)}") for key, value in stored.items()}


def _attribute(value: object, label: str) -> Attribute:
    if isinstance(value, (str, bytes)):
        return _text(value)
    array = np.asarray(value)
    if array.dtype.kind in "iuf" and array.ndim < 2:
        return array
    if array.dtype.kind in "OUS" and array.ndim == 1 and all(isinstance(text, (str, bytes)) for text in array):
        return tuple(map(_text, array))
    raise InputError(f"{label} is of type {array.dtype}; expected a text or numbers")


def _text(value: str | bytes) -> str:
    """Text whose bytes are all kept, UTF-8 or not."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def _classic_attributes(attributes: Mapping[str, Attribute]) -> Iterable[tuple[str, Any]]:
    for key, value in attributes.items():
        yield key, value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def _hdf5_attributes(attributes: Mapping[str, Attribute]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in attributes.items()}
