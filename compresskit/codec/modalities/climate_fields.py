"""What a file of gridded data holds, in whatever format: named arrays on named dimensions, with attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from compresskit.errors import CompresskitError, InputError, UsageError
from compresskit.wording import first_line

KINDS = ("npz", "netcdf3", "netcdf3-64bit", "netcdf4")
# A text, several texts, or numbers (a NumPy scalar or a 1-D array).
Attribute = str | tuple[str, ...] | NDArray[np.generic]


@dataclass(frozen=True)
class Field:
    """One array of a file.

    Attributes:
        name: unique in the file.
        dims: the name of each axis; () in formats that name none.
        shape: the length of each axis.
        dtype: as in the file, byte order included; of kind "O" for texts of any length.
        load: reads the array of `shape` and `dtype`, of `str` for kind "O".
        attributes: units and the like, in the file's order.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    load: Callable[[], NDArray]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True)
class Contents:
    """A file.

    Attributes:
        kind: one of `KINDS`: the container, and the version that holds it.
        fields: in the file's order.
        attributes: of the file as a whole.
        unlimited: the dimensions that may grow.
        deflated: the names of the fields that the file keeps deflated.
    """

    kind: str
    fields: tuple[Field, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    unlimited: tuple[str, ...] = ()
    deflated: tuple[str, ...] = ()


def array_field(name: str, values: NDArray, dims: tuple[str, ...] = (), attributes: Mapping[str, Attribute] | None = None) -> Field:
    """A field whose array is here already."""
    return Field(name, dims, values.shape, values.dtype, lambda: values, attributes or {})


@contextmanager
def using(library: str, name: str) -> Iterator[None]:
    """Turn whatever goes wrong while `library` reads or writes the file `name` into an error of one line.

    Raises:
        UsageError: the library is not installed.
        InputError: anything else: parsers raise nearly everything for damaged files.
    """
    try:
        yield
    except CompresskitError:
        raise
    except ImportError as error:
        raise UsageError(f"{name}: netCDF needs the package {error.name or library}: pip install 'compresskit[climate]'") from error
    except Exception as error:
        raise InputError(f"{name}: damaged or unsupported ({first_line(error)})") from error
