"""The reports of `metaprune` and of its training as a person reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table

from compresskit.metaprune.reports import LayerStatistics, MetapruneReport, MetatrainReport, Stage

from .tables import accuracy_cell, count, plain_table, plural, report_tables, wrote


def metaprune_tables(report: MetapruneReport, *, verbose: bool) -> Iterator[RenderableType]:
    """The stages, then what every pruned model shows; all statistics, layers and groups only where `verbose`."""
    yield _stages(report.steps)
    yield ""
    if report.statistics:
        yield _statistics(report.statistics)
        yield ""
    if report.unconverted and verbose:
        yield f"not seen by the metanetwork: {plural(len(report.unconverted), 'parameter')}"
        yield from (f"  {name}" for name in report.unconverted)
    yield from report_tables(report, verbose=verbose)


def metatrain_tables(report: MetatrainReport) -> Iterator[RenderableType]:
    """The epochs that were judged, and which was chosen."""
    table = plain_table("epoch", "accuracy", "flat up to", left=0)
    table.add_row("none", f"{report.original[0].accuracy:.2%}", "")
    for one in sorted(report.judged, key=lambda judged: judged.epoch):
        table.add_row(f"{one.epoch}{' *' if one.epoch == report.chosen else ''}", f"{one.accuracy:.2%}", f"{one.flat:.2f}x")
    yield table
    yield ""
    yield f"* chosen: the longest flat part, where accuracy stays at {report.least:.2%} on the validation split"
    yield f"all {plural(len(report.losses), 'epoch')}: {report.kept}"
    yield from wrote(report.outputs)
    yield f"seed {report.seed}, {report.device}, {plural(report.threads, 'thread')}, {sum(report.stages.values()):.1f} s"


def _stages(stages: Sequence[Stage]) -> Table:
    table = plain_table("stage", "epochs", "MACs", "validation accuracy")
    for stage in stages:
        table.add_row(stage.name, f"{stage.epochs:g}" if stage.epochs else "", count(stage.macs), accuracy_cell(stage.accuracy))
    return table


def _statistics(rows: Sequence[LayerStatistics]) -> Table:
    table = plain_table("layer", "norm", "sensitivity")
    for row in rows:
        table.add_row(row.name, f"{row.norm_before:.3g} → {row.norm_after:.3g}", f"{row.sensitivity_before:.3g} → {row.sensitivity_after:.3g}")
    return table
