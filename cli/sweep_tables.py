"""A SweepReport as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType

from compresskit.quantization.sweep import SweepReport, SweepRow

from .tables import accuracy_cell, accuracy_change, plain_table, plural, ratio, size, wrote


def tables(report: SweepReport) -> Iterator[RenderableType]:
    """A row a width."""
    table = plain_table("bits", "accuracy", "change", "file", "of float")
    table.add_row("float", accuracy_cell(report.accuracy), "", size(report.bytes), "")
    for row in report.rows:
        change = accuracy_change(report.accuracy, row.accuracy)
        table.add_row(_named(row), accuracy_cell(row.accuracy), change, size(row.bytes), ratio(row.bytes, report.bytes))
    yield table
    yield f"accuracy: {report.accuracy.metric} of {plural(report.accuracy.count, 'test sample')} in ONNX Runtime"
    yield from wrote(report.outputs)
    yield f"seed {report.seed}, {plural(report.threads, 'thread')}, {sum(report.stages.values()):.1f} s"


def _named(row: SweepRow) -> str:
    return f"W{row.weights}A{row.activations}"
