"""Rows of cells from delimited text, a line at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO

from compresskit.data.files import open_stream
from compresskit.errors import InputError

_MAX_LINE = 2**24


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells stripped of blanks) of each row that is not empty.

    Cells are separated by tabs where the first line has one, else by semicolons or commas, whichever it has more of. Quotation marks
    quote in all but tab-separated text, where they are characters.

    Raises:
        InputError: not UTF-8 text, not a table, unreadable.
    """
    with open_stream(path) as stream:
        lines = _lines(path, stream)
        first = next(lines, "")
        delimiter = "\t" if "\t" in first else max(";,", key=first.count)
        cells = chain([first], lines)
        reader = csv.reader(cells, delimiter=delimiter, quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL)
        try:
            for row in reader:
                if row:
                    yield reader.line_num, [cell.strip() for cell in row]
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num}: not a table ({error})") from error


def is_text(start: bytes) -> bool:
    """Whether a file that begins with `start` can be text in UTF-8."""
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # else a character was cut at the end
            return False
    return bool(start) and b"\0" not in start


def _lines(path: Path, stream: IO[bytes]) -> Iterator[str]:
    encoding = "utf-8-sig"  # the first line may have a byte order mark
    while line := stream.readline(_MAX_LINE):
        if len(line) == _MAX_LINE:
            raise InputError(f"{path}: a line is over {_MAX_LINE} bytes long; not a table")
        try:
            yield line.decode(encoding)
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 text ({error.reason})") from error
        encoding = "utf-8"
