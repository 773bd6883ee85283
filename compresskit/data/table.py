"""Tables in text, one sample a row: `csv`, `tsv` and their like.

A heading is recognised by its cells: names above numbers, or nothing but names. A feature column whose first value is a
number is numeric, and its missing values (empty, NA, NaN, ?, null, none) become the column's mean. One whose first value
is text is categorical: a column of 0 and 1 for each distinct value, sorted, takes its place; a missing value is all 0.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np

from compresskit.data.delimited import is_text, read_rows
from compresskit.data.files import head
from compresskit.data.limits import Budget
from compresskit.data.source import SOURCES, Pair, Raw, Request, Source
from compresskit.errors import InputError
from compresskit.wording import listed

_MISSING = frozenset(("", "na", "nan", "?", "null", "none"))
_LABEL_NAMES = ("label", "target", "class", "y")
_MAX_CATEGORIES = 64


class _Features:
    """The feature cells while they are read: numbers row by row, NaN where missing, codes in columns that have `categories`."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path = path
        self.names = names
        self.values = array("d")
        self.categories: dict[int, dict[str, int]] = {}

    def add(self, line: int, cells: Sequence[str]) -> None:
        """Append one row.

        Raises:
            InputError: text in a numeric column, or too many categories.
        """
        if not self.categories:
            try:
                self.values.extend(list(map(float, cells)))
                return
            except ValueError:
                pass  # missing or text: cell by cell
        self.values.extend([self._value(line, column, cell) for column, cell in enumerate(cells)])

    def _value(self, line: int, column: int, cell: str) -> float:
        if cell.lower() in _MISSING:
            return float("nan")
        if column not in self.categories:
            number = _number(cell)
            if number is not None:
                return number
            if not np.isnan(self.values[column :: len(self.names)]).all():
                raise InputError(f"{self.path}, line {line}: {cell!r} in column {self.names[column]!r} is not a number")
        codes = self.categories.setdefault(column, {})
        if len(codes) == _MAX_CATEGORIES and cell not in codes:
            raise InputError(
                f"{self.path}: column {self.names[column]!r} is text or has over {_MAX_CATEGORIES} categories; leave it out or encode it as numbers"
            )
        return codes.setdefault(cell, len(codes))

    def array(self, budget: Budget) -> np.ndarray:
        """All rows as (N, F) float32.

        Raises:
            InputError: a column has no values, or they are over the budget.
        """
        table = np.array(self.values).reshape(-1, len(self.names))
        width = sum(len(self.categories.get(column, "1")) for column in range(len(self.names)))
        budget.take(4 * len(table) * width, str(self.path))
        return np.hstack([self._encoded(column, table[:, column]) for column in range(len(self.names))])

    def _encoded(self, column: int, values: np.ndarray) -> np.ndarray:
        if column in self.categories:
            codes = self.categories[column]
            return (values[:, None] == [codes[name] for name in sorted(codes)]).astype(np.float32)
        missing = np.isnan(values)
        if missing.all():
            raise InputError(f"{self.path}: column {self.names[column]!r} has no values; leave it out")
        with np.errstate(over="ignore"):  # beyond float32: refused later, with every other infinity
            return np.where(missing, values[~missing].mean() if missing.any() else 0.0, values)[:, None].astype(np.float32)


def _matches(request: Request) -> bool:
    return request.file is not None and is_text(head(request.file, 4096))


def _read(request: Request) -> Raw:
    path = request.paths[0]
    rows = read_rows(path)
    start = list(islice(rows, 2))
    if len(start) < 2 or len(start[0][1]) < 2:
        raise InputError(f"{path}: expected a table of at least two columns and two rows, separated by tab, comma or semicolon")
    heading = start[0][1] if _is_heading(start[0][1], start[1][1]) else None
    names = heading or [str(column) for column in range(len(start[0][1]))]
    samples = chain(start[1:] if heading else start, rows)
    return Raw(_read_samples(samples, names, _label_column(names, request.label_column, path), path, request.budget))


def _read_samples(samples: Iterator[tuple[int, list[str]]], names: list[str], label: int, path: Path, budget: Budget) -> Pair:
    features = _Features(path, names[:label] + names[label + 1 :])
    labels: list[str] = []
    for line, cells in samples:
        if len(cells) != len(names):
            raise InputError(f"{path}, line {line}: has {len(cells)} cells; expected {len(names)}")
        budget.take(8 * len(cells), str(path))
        labels.append(cells.pop(label))
        if labels[-1].lower() in _MISSING:
            raise InputError(f"{path}, line {line}: the label (column {names[label]!r}) is missing")
        features.add(line, cells)
    return Pair(features.array(budget), _label_array(labels))


def _is_heading(first: Sequence[str], second: Sequence[str]) -> bool:
    numeric = [_number(cell) is not None for cell in first]
    below = [_number(cell) is not None for cell in second]
    return not any(numeric) or any(under and not above for above, under in zip(numeric, below, strict=False))


def _label_column(names: Sequence[str], wanted: str | None, path: Path) -> int:
    """The column `wanted`, by name or by number; else the one called label, target, class or y; else the last."""
    if wanted is None:
        called = [index for index, name in enumerate(names) if name.lower() in _LABEL_NAMES]
        return called[0] if len(called) == 1 else len(names) - 1
    if wanted in names:
        return names.index(wanted)
    try:
        return range(len(names))[int(wanted)]
    except (ValueError, IndexError):
        raise InputError(f"{path}: has no column {wanted!r}; it has {listed(names)}") from None


def _label_array(labels: list[str]) -> np.ndarray:
    """Integers where all are written as such, floats where all are numbers, else names."""
    for dtype in (np.int64, np.float64):
        try:
            return np.array(labels).astype(dtype)
        except (ValueError, OverflowError):
            continue
    return np.array(labels)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


SOURCES.register("table")(Source(_matches, _read))
