"""IDX, the format of MNIST and its kin, packed with gzip or not: a pair `images,labels`, or a folder with the usual names.

Format: 00 00, type code, number of axes, the axes' sizes as big-endian uint32, the values in big-endian C order.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compresskit.data.files import open_stream, read_values
from compresskit.data.limits import Budget
from compresskit.data.roles import array_source
from compresskit.data.source import SOURCES
from compresskit.errors import InputError

_DTYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_MAX_AXES = 8


def read_idx(path: Path, budget: Budget) -> np.ndarray:
    """Read one array.

    Raises:
        InputError: not IDX, damaged, or over the budget.
    """
    with open_stream(path) as stream:
        magic = stream.read(4)
        if not _is_magic(magic):
            raise InputError(f"{path}: not an IDX file")
        axes = stream.read(4 * magic[3])
        if len(axes) < 4 * magic[3]:
            raise InputError(f"{path}: truncated in its header")
        shape = tuple(int(size) for size in np.frombuffer(axes, ">u4"))
        return read_values(stream, shape, np.dtype(_DTYPES[magic[2]]), str(path), budget)


def _is_magic(start: bytes) -> bool:
    return len(start) >= 4 and start[:2] == b"\0\0" and start[2] in _DTYPES and 1 <= start[3] <= _MAX_AXES


SOURCES.register("idx")(array_source(_is_magic, read_idx))
