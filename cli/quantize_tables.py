"""A QuantizeReport as a person reads it: before and after, what became of each layer, what was left alone and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf

from rich.console import RenderableType
from rich.table import Table

from compresskit.quantization.report import LayerRow, QuantizeReport

from .tables import accuracy_cell, accuracy_change, latency_cell, plain_table, plural, size, wrote

LAYERS_SHOWN = 8
SKIPPED_SHOWN = 5


def report_tables(report: QuantizeReport, *, verbose: bool) -> Iterator[RenderableType]:
    """The tables of `report`, most important first; all layers and everything left alone only where `verbose`."""
    yield _figures(report)
    yield ""
    # Where there is no room for all, those that lost most.
    worst = sorted(report.layers, key=lambda row: (-(row.sensitivity or 0), min(filter(None, (row.weight_sqnr, row.activation_sqnr)), default=inf)))
    shown = report.layers if verbose or len(report.layers) <= LAYERS_SHOWN else worst[:LAYERS_SHOWN]
    if shown:
        yield _layers(shown, len(report.layers))
        yield ""
    if report.skipped:
        yield f"left in float: {plural(len(report.skipped), 'operator')}"
        listed = report.skipped if verbose else report.skipped[:SKIPPED_SHOWN]
        yield from (f"  {skip.group}: {skip.reason}" for skip in listed)
        if len(report.skipped) > len(listed):
            yield f"  … {len(report.skipped) - len(listed)} more (-v)"
    yield from _closing(report)


def _figures(report: QuantizeReport) -> Table:
    before, after = report.before, report.after
    table = plain_table("", "before", "after", "change")
    table.add_row("file", size(before.bytes), size(after.bytes), f"{after.bytes / before.bytes:.1%}")
    if before.accuracy and after.accuracy:
        table.add_row("accuracy", accuracy_cell(before.accuracy), accuracy_cell(after.accuracy), accuracy_change(before.accuracy, after.accuracy))
    table.add_row("latency p50 / p90", latency_cell(before.latency), latency_cell(after.latency), f"{report.speedup:.2f}x as fast")
    return table


def _layers(rows: Sequence[LayerRow], total: int) -> Table:
    alone = ("drop alone",) if any(row.sensitivity is not None for row in rows) else ()
    table = plain_table("layer", "kind", "bits", "range", "clipped", "SQNR W / A", "bytes", *alone, left=2)
    for row in rows:
        bits = f"W{row.weight_bits}" + (f"A{row.activation_bits}" if row.activation_bits else "")
        span = "" if row.low is None or row.high is None else f"{row.low:.3g} … {row.high:.3g}"
        clipped = "" if row.clipped is None else f"{row.clipped:.2%}"
        noise = f"{_decibels(row.weight_sqnr)} / {_decibels(row.activation_sqnr)} dB"
        dropped = () if row.sensitivity is None else (f"{row.sensitivity:.4f}",)
        table.add_row(row.name, row.kind, bits, span, clipped, noise, f"{size(row.bytes_before)} → {size(row.bytes_after)}", *dropped)
    if total > len(rows):
        table.add_row(f"… {total - len(rows)} more (-v)", *[""] * (6 + len(alone)))
    return table


def _closing(report: QuantizeReport) -> Iterator[str]:
    """What was done, what the figures are of, what was checked and written."""
    yield f"{report.scheme}: weights are {report.weights_are}, activations are {report.activations_are}"
    if report.settings.get("method", "ptq") != "ptq":
        yield f"trained under quantization: {report.settings['method']}, {report.settings['epochs']:g} epochs"
    if report.equalized:
        yield "channels were brought to like ranges across layers first"
    learned = sum(row.rounding == "learned" for row in report.layers)
    if learned:
        yield f"the weights of {plural(learned, 'layer')} were rounded as the calibration samples taught"
    if any(row.sensitivity is not None for row in report.layers):
        yield "drop alone: what the validation samples lose if only this layer is quantized, its weights to the nearest"
    if report.target is not None:
        what = "bytes of weights" if report.target.kind == "size" else "bit operations"
        yield f"{report.target.reached:.4f} of float32's {what}, {report.target.requested:.4g} asked for: a width for each layer, learned"
    accuracy = report.after.accuracy
    if accuracy is not None:
        interval = ", with its 95% interval" if accuracy.low is not None else ""
        yield f"accuracy: {accuracy.metric} of {plural(accuracy.count, 'test sample')} in ONNX Runtime{interval}"
    yield f"latency: ONNX Runtime, batch {report.after.latency.batch}, {plural(report.threads, 'thread')}, runs in turns"
    if report.integers is not None:
        equal, worst = report.integers.equal, report.integers.worst
        yield f"checked in ONNX Runtime: {equal:.4%} of {report.integers.compared:,} integers as computed here, none off by more than {worst}"
    yield from wrote(report.outputs)
    yield f"seed {report.seed}, {plural(report.threads, 'thread')}, {sum(report.stages.values()):.1f} s"


def _decibels(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
