"""IDX, the format of MNIST and its kin, packed with gzip or not: a pair `images,labels`, or a folder with the usual names.

Format: 00 00, type code, number of axes, the axes' sizes as big-endian uint32, the values in big-endian C order.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compresskit.data.files import head, open_stream, read_values
from compresskit.data.limits import Budget
from compresskit.data.roles import array_files, read_array_files
from compresskit.data.source import SOURCES, Raw, Request, Source
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


def _is_idx(path: Path) -> bool:
    return path.is_file() and _is_magic(head(path, 4))


def _matches(request: Request) -> bool:
    if request.file and _is_idx(request.file):
        raise InputError(f"{request.file}: is samples or labels alone; give both (--data images,labels) or their folder")
    return any(map(_is_idx, array_files(request).values()))


def _read(request: Request) -> Raw:
    return read_array_files(request, lambda path: read_idx(path, request.budget))


SOURCES.register("idx")(Source(_matches, _read))
