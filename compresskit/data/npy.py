"""NumPy's `.npy`: a pair `x.npy,y.npy`, or a folder with `x_train.npy`, `y_train.npy` and so on.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO

import numpy as np

from compresskit.data.files import open_stream, read_values
from compresskit.data.limits import Budget
from compresskit.data.roles import array_source
from compresskit.data.source import SOURCES
from compresskit.errors import InputError
from compresskit.wording import first_line

MAGIC = b"\x93NUMPY"
_MAX_HEADER = 2**16


def read_npy(stream: IO[bytes], name: str, budget: Budget, kinds: str = "biufUS") -> np.ndarray:
    """Read one array whose dtype is of one of `kinds`; never unpickles.

    Raises:
        InputError: not `.npy`, damaged, of Python objects or of a structured type, or over the budget.
    """
    shape, fortran_order, dtype = _read_header(stream, name)
    if dtype.hasobject:
        raise InputError(f"{name}: holds pickled Python objects, which are never loaded; save it with a numeric dtype")
    if dtype.kind not in kinds:
        raise InputError(f"{name}: has dtype {dtype}; expected numbers, or strings for labels")
    if fortran_order:
        return read_values(stream, shape[::-1], dtype, name, budget).transpose()
    return read_values(stream, shape, dtype, name, budget)


def _read_header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    prefix = stream.read(8)
    major = prefix[6] if len(prefix) == 8 and prefix.startswith(MAGIC) else 0
    if major not in (1, 2):
        raise InputError(f"{name}: not a NumPy array (version 1 or 2 of .npy)")
    length = stream.read(2 * major)
    # NumPy reads as many bytes as a header claims to have (up to 4 GiB) before it looks at the number: look first.
    claimed = int.from_bytes(length, "little")
    if claimed > _MAX_HEADER:
        raise InputError(f"{name}: damaged (a header of {claimed} bytes)")
    header = io.BytesIO(length + stream.read(claimed))
    parse = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    try:
        return parse(header)
    except Exception as error:  # the header is a Python literal: a hostile one makes the parser raise nearly anything
        raise InputError(f"{name}: damaged header ({first_line(error)})") from error


def _read_file(path: Path, budget: Budget) -> np.ndarray:
    with open_stream(path) as stream:
        return read_npy(stream, str(path), budget)


SOURCES.register("npy")(array_source(lambda start: start.startswith(MAGIC), _read_file))
