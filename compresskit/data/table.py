"""Tables in text, one sample a row: `csv`, `tsv` and their like, for models that take numbers.

A feature column whose first value is a
number is numeric, and its missing values (empty, NA, NaN, ?, null, none) become the column's mean. One whose first value
is text is categorical: a column of 0 and 1 for each distinct value, sorted, takes its place; a missing value is all 0.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compresskit.data.delimited import is_text
from compresskit.data.files import head
from compresskit.data.labelled import MISSING, label_array, number, read_labelled
from compresskit.data.limits import Budget
from compresskit.data.source import SOURCES, Pair, Raw, Request, Source
from compresskit.errors import InputError

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
        if cell.lower() in MISSING:
            return float("nan")
        if column not in self.categories:
            value = number(cell)
            if value is not None:
                return value
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
    return request.vocabulary is None and request.file is not None and is_text(head(request.file, 4096))


def _read(request: Request) -> Raw:
    path = request.paths[0]
    rows = read_labelled(path, request.label_column)
    features = _Features(path, rows.names)
    labels: list[str] = []
    for line, cells, label in rows.samples:
        request.budget.take(8 * (len(cells) + 1), str(path))
        labels.append(label)
        features.add(line, cells)
    return Raw(Pair(features.array(request.budget), label_array(labels)))


SOURCES.register("table")(Source(_matches, _read))
