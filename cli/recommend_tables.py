"""What `recommend` found, as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table

from compresskit.recommend.report import GenerateReport, Recommendation, RecommendReport, TrainReport

from .tables import plain_table, plural, size, wrote

FAILURES_SHOWN = 5


def report_tables(report: RecommendReport) -> Iterator[RenderableType]:
    """The settings, best first; then what they were chosen from and how far to trust them."""
    yield _settings(report)
    yield ""
    if report.explained:
        yield _explained(report)
        yield f"nearest known problems: {', '.join(report.nearest)}"
        yield ""
    if report.original is not None:
        yield f"the model as it is: {_quality(report.original, report.metric)}"
    yield f"{plural(report.met, 'setting')} of {report.offered} meet what is asked; predicted by {report.predictor}, intervals cover 90%"
    yield f"the best single pair of methods may be off by {report.bound:.2f} for any model, at 95% (Lemma 3.1): hence a prediction for this one"
    yield from wrote(report.outputs)
    yield f"seed {report.seed}, {plural(report.threads, 'thread')}, {sum(report.stages.values()):.1f} s"


def _settings(report: RecommendReport) -> Table:
    verified = any(entry.real is not None for entry in report.recommended)
    timed = any(entry.latency_ms is not None for entry in report.recommended)
    heads = ["prune", "quantize", "smaller", "bytes", *(["latency"] if timed else []), "expected", "90% interval", *(["real"] if verified else [])]
    table = plain_table("", *heads, left=3)
    for place, entry in enumerate(report.recommended, 1):
        pruned = "-" if entry.pruner == "none" else f"{entry.pruner} {entry.sparsity:.0%}"
        quantized = "-" if entry.quantizer == "none" else f"{entry.quantizer} W{entry.bits}A{entry.bits}"
        cells = [str(place), pruned, quantized, f"{entry.compression:.1f}x", size(round(entry.size))]
        cells += [f"{entry.latency_ms:.3g} ms"] if timed and entry.latency_ms is not None else []
        cells += [_quality(entry.predicted, report.metric), f"{entry.low:.3f} … {entry.high:.3f}"]
        table.add_row(*cells, *([_real(entry, report.metric)] if verified else []))
    return table


def _real(entry: Recommendation, metric: str) -> str:
    if entry.real is None or entry.real_compression is None:
        return ""
    return f"{_quality(entry.real, metric)} at {entry.real_compression:.1f}x"


def _explained(report: RecommendReport) -> Table:
    table = plain_table("what drove the first", "here", "share of gain", "adds")
    for drive in report.explained:
        table.add_row(drive.feature, "" if drive.value is None else f"{drive.value:.4g}", f"{drive.gain:.1%}", f"{drive.shap:+.3f}")
    return table


def training_tables(report: TrainReport, *, verbose: bool) -> Iterator[RenderableType]:
    """How good the recommendations are for architectures that a fit had not seen."""
    if report.metrics:
        table = plain_table("", "top-5", "top-1", "error", "MAE", "tau", "coverage")
        for name, metrics in report.metrics.items():
            columns = ("top5", "top1", "error", "mae", "tau", "coverage")
            table.add_row(name, *("-" if (value := metrics[column]) is None else f"{value:.3f}" for column in columns))
        yield table
        yield ""
    yield f"{plural(report.trials, 'trial')} of {plural(report.problems, 'problem')}, {report.tried} of them new"
    if report.ignored:
        yield f"{plural(report.ignored, 'row')} of other versions ignored"
    shown = report.failed if verbose else report.failed[:FAILURES_SHOWN]
    yield from (f"not possible: {failure}" for failure in shown)
    if len(report.failed) > len(shown):
        yield f"  … {len(report.failed) - len(shown)} more (-v)"
    yield from wrote(report.outputs)
    yield f"{sum(report.stages.values()):.1f} s"


def generated_lines(report: GenerateReport) -> Iterator[str]:
    """What was drawn."""
    yield f"{plural(report.count, 'sample')} of {' x '.join(map(str, report.shape))}"
    yield from wrote(report.outputs)
    yield f"seed {report.seed}, {sum(report.stages.values()):.1f} s"


def _quality(value: float, metric: str) -> str:
    return f"{value:.4g}" if metric == "rmse" else f"{value:.2%}"
