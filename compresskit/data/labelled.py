"""Rows of a table with one column of labels.

A heading is recognised by its cells: names above numbers, or nothing but names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np

from compresskit.data.delimited import read_rows
from compresskit.errors import InputError
from compresskit.wording import listed

MISSING = frozenset(("", "na", "nan", "?", "null", "none"))
_LABEL_NAMES = ("label", "target", "class", "y")


@dataclass(frozen=True)
class LabelledRows:
    """A table that is open for reading, once.

    Attributes:
        names: of the columns beside the label; their numbers where there is no heading.
        samples: (line number, cells of `names`, label) of each row; raises InputError.
    """

    names: list[str]
    samples: Iterator[tuple[int, list[str], str]]


def read_labelled(path: Path, wanted: str | None) -> LabelledRows:
    """Open a table whose labels are in column `wanted`, by name or by number; else in the one called label, target, class or y; else in the last.

    Raises:
        InputError: not UTF-8 text, not a table of at least two columns and two rows, or without that column.
    """
    rows = read_rows(path)
    start = list(islice(rows, 2))
    if len(start) < 2 or len(start[0][1]) < 2:
        raise InputError(f"{path}: expected a table of at least two columns and two rows, separated by tab, comma or semicolon")
    heading = start[0][1] if _is_heading(start[0][1], start[1][1]) else None
    names = heading or [str(column) for column in range(len(start[0][1]))]
    label = _label_column(names, wanted, path)
    return LabelledRows(names[:label] + names[label + 1 :], _samples(chain(start[1:] if heading else start, rows), names, label, path))


def label_array(labels: list[str]) -> np.ndarray:
    """Integers where all are written as such, floats where all are numbers, else names."""
    for dtype in (np.int64, np.float64):
        try:
            return np.array(labels).astype(dtype)
        except (ValueError, OverflowError):
            continue
    return np.array(labels)


def number(cell: str) -> float | None:
    """The number that a cell holds, if it holds one."""
    try:
        return float(cell)
    except ValueError:
        return None


def _samples(rows: Iterator[tuple[int, list[str]]], names: list[str], label: int, path: Path) -> Iterator[tuple[int, list[str], str]]:
    for line, cells in rows:
        if len(cells) != len(names):
            raise InputError(f"{path}, line {line}: has {len(cells)} cells; expected {len(names)}")
        value = cells.pop(label)
        if value.lower() in MISSING:
            raise InputError(f"{path}, line {line}: the label (column {names[label]!r}) is missing")
        yield line, cells, value


def _is_heading(first: Sequence[str], second: Sequence[str]) -> bool:
    numeric = [number(cell) is not None for cell in first]
    below = [number(cell) is not None for cell in second]
    return not any(numeric) or any(under and not above for above, under in zip(numeric, below, strict=False))


def _label_column(names: Sequence[str], wanted: str | None, path: Path) -> int:
    if wanted is None:
        called = [index for index, name in enumerate(names) if name.lower() in _LABEL_NAMES]
        return called[0] if len(called) == 1 else len(names) - 1
    if wanted in names:
        return names.index(wanted)
    try:
        return range(len(names))[int(wanted)]
    except (ValueError, IndexError):
        raise InputError(f"{path}: has no column {wanted!r}; it has {listed(names)}") from None
