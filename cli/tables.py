"""A Report as a person reads it: before and after, what changed in which layer, what was left alone and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import RenderableType
from rich.table import Table

from compresskit.report import Accuracy, Latency, LatencyTry, LayerRow, Measure, Output, Report, Training

if TYPE_CHECKING:
    from compresskit.models.latency_table import Table as LatencyTable

LAYERS_SHOWN = 8
SKIPPED_SHOWN = 5
TRAINING: tuple[tuple[str, Callable[[Training], float], Callable[[float], str]], ...] = (
    ("training, an epoch", lambda training: training.epoch_seconds, lambda seconds: f"{seconds:.3g} s"),
    ("training memory", lambda training: training.peak_bytes, lambda count: size(int(count))),
)


def report_tables(report: Report, *, verbose: bool) -> Iterator[RenderableType]:
    """The tables of `report`, most important first; all layers and skipped groups only where `verbose`."""
    yield _measures(report.before, report.after)
    changed = [row for row in report.layers if verbose or row.width_before != row.width_after or row.rank]
    yield ""
    if changed:
        yield _layers(changed if verbose else changed[:LAYERS_SHOWN], len(changed))
        yield ""
    if report.tries:
        yield _tries(report.tries)
        yield ""
    if report.skipped:
        yield from _skipped(report, verbose)
    yield from _closing(report)


def count(value: float) -> str:
    """A number of things in the unit of its size: 40.81M."""
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.4g}{suffix}"
    return f"{value:.4g}"


def size(value: int) -> str:
    """A number of bytes in decimal units: 1.084 MB."""
    return f"{count(value)}B".replace("kB", " kB").replace("MB", " MB").replace("GB", " GB") if value >= 1000 else f"{value} B"


def wrote(outputs: Sequence[Output]) -> Iterator[str]:
    """A line for every file that was written."""
    for output in outputs:
        yield f"wrote {'the standard output' if output.path == '-' else output.path} ({output.format}, {size(output.bytes)})"


def plural(number: int, noun: str) -> str:
    """A number of things in words: 2 threads."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def plain_table(*headings: str, left: int = 1) -> Table:
    """An empty table in the one style of all: columns under a line, the first `left` of them aligned left, the others right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index < left else "right", overflow="fold")
    return table


def _measures(before: Measure, after: Measure) -> Table:
    table = plain_table("", "before", "after", "kept")
    rows: list[tuple[str, Callable[[Measure], int], Callable[[int], str]]] = [
        ("MACs", lambda measure: measure.macs, count),
        ("parameters", lambda measure: measure.parameters, count),
        ("weights", lambda measure: measure.bytes, size),
        ("peak activations", lambda measure: measure.peak_activation_bytes, size),
    ]
    for name, figure, spell in rows:
        table.add_row(name, spell(figure(before)), spell(figure(after)), ratio(figure(after), figure(before)))
    if after.nonzero is not None:
        whole = before.nonzero if before.nonzero is not None else before.parameters
        table.add_row("nonzero", count(whole), count(after.nonzero), ratio(after.nonzero, whole))
    if before.accuracy or after.accuracy:
        table.add_row("accuracy", accuracy_cell(before.accuracy), accuracy_cell(after.accuracy), accuracy_change(before.accuracy, after.accuracy))
    if before.latency and after.latency:
        table.add_row(
            "latency p50 / p90", latency_cell(before.latency), latency_cell(after.latency), ratio(after.latency.p50_ms, before.latency.p50_ms)
        )
    if before.training and after.training:
        for name, price, written in TRAINING:
            first, second = price(before.training), price(after.training)
            table.add_row(name, written(first), written(second), ratio(second, first))
    return table


def _layers(rows: list[LayerRow], total: int) -> Table:
    table = plain_table("layer", "kind", "width", "MACs", "kept", left=2)
    for row in rows:
        width = f"{row.width_before} → {row.width_after}" if row.width_before != row.width_after else f"{row.width_before}"
        if row.rank:
            width += f", rank {row.rank}"
        macs = f"{count(row.macs_before)} → {count(row.macs_after)}"
        table.add_row(row.name, row.kind, width, macs, ratio(row.macs_after, row.macs_before))
    if total > len(rows):
        table.add_row(f"… {total - len(rows)} more (-v)", "", "", "", "")
    return table


def _skipped(report: Report, verbose: bool) -> Iterator[RenderableType]:
    shown = report.skipped if verbose else report.skipped[:SKIPPED_SHOWN]
    yield f"left whole: {plural(len(report.skipped), 'group')}"
    for skip in shown:
        yield f"  {skip.group}: {skip.reason}"
    if len(report.skipped) > len(shown):
        yield f"  … {len(report.skipped) - len(shown)} more (-v)"


def latency_lines(table: LatencyTable, path: str) -> Iterator[str]:
    """What a latency table holds."""
    points = sum(len(entry.inputs) * len(entry.outputs) for entry in table.entries)
    for whole in table.models.values():
        yield f"the model: {whole.ms:.3g} ms, its operators {whole.operators_ms:.3g} ms in sum"
    yield f"ONNX Runtime {table.onnxruntime}, batch {table.batch}, {plural(table.threads, 'thread')}, {table.machine}"
    yield f"wrote {path} ({plural(len(table.entries), 'operator')}, {plural(points, 'point')})"


def _tries(tries: Sequence[LatencyTry]) -> Table:
    table = plain_table("latency: planned for", "predicted", "measured", left=0)
    for entry in tries:
        table.add_row(*(f"{value:.3g} ms" for value in (entry.limit, entry.predicted, entry.measured)))
    return table


def figures_are_of(measure: Measure) -> Iterator[str]:
    """What accuracies and latencies are of."""
    accuracy, latency = measure.accuracy, measure.latency
    if accuracy is not None:
        interval = ", with its 95% interval" if accuracy.low is not None else ""
        yield f"accuracy: {accuracy.metric} of {plural(accuracy.count, 'test sample')}{interval}"
    if latency is not None:
        yield f"latency: ONNX Runtime, batch {latency.batch}, {plural(latency.threads, 'thread')}"


def _closing(report: Report) -> Iterator[str]:
    """What the figures are of, what was asked for, checked and written."""
    yield from figures_are_of(report.after)
    if report.target is not None:
        target = report.target
        yield f"target: --{target.kind} {_amount(target.requested, target.unit)}, reached {_amount(target.reached, target.unit)}"
    if report.parity is not None:
        yield f"checked in ONNX Runtime: largest difference {report.parity.max_abs_error:.2g} over {plural(report.parity.inputs, 'input')}"
    yield from wrote(report.outputs)
    yield f"seed {report.seed}, {report.device}, {plural(report.threads, 'thread')}, {sum(report.stages.values()):.1f} s"


def _amount(value: float, unit: str) -> str:
    if unit == "fraction":
        return f"{value:.4g}"
    return size(int(value)) if unit == "bytes" else f"{value:.3g} ms" if unit == "ms" else f"{count(value)} {unit}"


def ratio(after: float, before: float) -> str:
    """What is left, in percent."""
    return f"{after / before:.1%}" if before else ""


def accuracy_cell(accuracy: Accuracy | None) -> str:
    """An accuracy with its interval, where it has one."""
    if accuracy is None:
        return ""
    if accuracy.low is None or accuracy.high is None:
        return f"{accuracy.value:.4g}"
    return f"{accuracy.value:.2%} [{100 * accuracy.low:.2f}, {100 * accuracy.high:.2f}]"


def accuracy_change(before: Accuracy | None, after: Accuracy | None) -> str:
    """What became of an accuracy: points of a percentage, or the difference of errors."""
    if before is None or after is None:
        return ""
    change = after.value - before.value
    return f"{change:+.4g}" if after.low is None else f"{100 * change:+.2f} pt"


def latency_cell(latency: Latency | None) -> str:
    """Median and 90th percentile."""
    return f"{latency.p50_ms:.3g} / {latency.p90_ms:.3g} ms" if latency else ""
