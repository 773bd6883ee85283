"""Reading bytes from files that may be packed, damaged or hostile."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import IO, cast

import numpy as np

from compresskit.data.limits import Budget
from compresskit.errors import InputError
from compresskit.wording import first_line

GZIP_MAGIC = b"\x1f\x8b"
# Everything that gzip, zlib and zipfile raise for damaged input; RuntimeError is an encrypted member, NotImplementedError an unknown method.
_DAMAGE = (EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile, NotImplementedError, RuntimeError, ValueError, OverflowError)


@contextmanager
def reading(name: Path | str) -> Iterator[None]:
    """Turn whatever goes wrong while `name` is read into an InputError of one line."""
    try:
        yield
    except _DAMAGE as error:
        raise InputError(f"{name}: damaged or truncated ({first_line(error)})") from error
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror or first_line(error)})") from error
    except MemoryError:
        raise InputError(f"not enough memory for {name}: use fewer samples") from None


@contextmanager
def open_stream(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, through gzip if it is packed with it (by content, whatever its suffix).

    Raises:
        InputError: the file is missing, unreadable or damaged.
    """
    with reading(path), path.open("rb") as raw:
        packed = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        if not packed:
            yield raw
            return
        with gzip.GzipFile(fileobj=raw) as stream:
            yield cast("IO[bytes]", stream)


def read_bytes(path: Path | str) -> bytes:
    """A whole file, as it is.

    Raises:
        InputError: it is missing, a folder or closed to us.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error


def head(path: Path, count: int = 16) -> bytes:
    """The first `count` bytes of a file, unpacked; fewer when it is shorter.

    Raises:
        InputError: the file cannot be read.
    """
    with open_stream(path) as stream:
        return stream.read(count)


def read_values(stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype, name: str, budget: Budget) -> np.ndarray:
    """Read the rest of `stream`, which must be exactly an array of `shape` in C order.

    The size that the header declared is checked against the budget first; then memory is touched only as bytes arrive.

    Raises:
        InputError: over the budget, a size below zero, or fewer or more bytes than declared.
    """
    if min(shape, default=0) < 0 or dtype.itemsize == 0:
        raise InputError(f"{name}: damaged (its header declares shape {shape} of {dtype})")
    count = 1
    for size in shape:
        count *= size  # Python integers: a declared 2**40 x 2**40 must not wrap around
    budget.take(count * dtype.itemsize, name)
    with reading(name):
        values = np.empty(count, dtype)
        _fill(cast(BufferedIOBase, stream), values.view(np.uint8).data, name)
        # Also makes gzip and zip compare their checksums, which they do at the end only.
        if stream.read(1):
            raise InputError(f"{name}: holds more bytes than its header declares, {shape} of {dtype}")
        return values.reshape(shape)


def _fill(stream: BufferedIOBase, target: memoryview, name: str) -> None:
    filled = 0
    while filled < len(target):
        got = stream.readinto(target[filled : filled + 2**20])
        if not got:
            raise InputError(f"{name}: truncated: {filled} of {len(target)} bytes are there")
        filled += got
