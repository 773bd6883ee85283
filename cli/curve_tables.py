"""A CurveReport as a person reads it: a row a model, what the figures are of, and where the models are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table

from compresskit.pruning.curve_report import CurveReport
from compresskit.report import Measure

from .tables import accuracy_cell, accuracy_change, count, figures_are_of, latency_cell, plain_table, plural, ratio


def curve_tables(report: CurveReport, state: Path | None) -> Iterator[RenderableType]:
    """The table of `report`, and what is to be said of it; `state` is the file that says how far the curve is, None in a dry run."""
    yield _points(report)
    yield ""
    yield from figures_are_of(report.points[-1].measure if report.points else report.whole)
    if report.points:
        worst = max(point.parity.max_abs_error for point in report.points)
        yield f"checked in ONNX Runtime: largest difference {worst:.2g} over {plural(report.points[0].parity.inputs, 'input')} of each model"
    if state is not None:
        yield f"{plural(len(report.points), 'model')} in {state.parent}; {state.name} is what --resume goes on from"
    yield f"seed {report.seed}, {report.device}, {plural(report.threads, 'thread')}, {sum(report.stages.values()):.1f} s"


def _points(report: CurveReport) -> Table:
    judged = report.whole.accuracy is not None
    table = plain_table("model", "MACs", "kept", "parameters", *(("accuracy", "change") if judged else ()), "latency p50 / p90")
    rows = [(Path(report.model.source).name, report.whole), *((Path(point.output.path).name, point.measure) for point in report.points)]
    for name, measure in rows:
        table.add_row(name, *_figures(measure, report.whole))
    return table


def _figures(measure: Measure, whole: Measure) -> Iterator[str]:
    yield count(measure.macs)
    yield ratio(measure.macs, whole.macs)
    yield count(measure.parameters)
    if whole.accuracy is not None:
        yield accuracy_cell(measure.accuracy)
        yield accuracy_change(whole.accuracy, measure.accuracy) if measure is not whole else ""
    yield latency_cell(measure.latency)
