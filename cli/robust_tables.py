"""A RobustReport as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType

from compresskit.quantization.robust.report import RobustReport

from .tables import accuracy_cell, accuracy_change, plain_table, plural, wrote


def tables(report: RobustReport) -> Iterator[RenderableType]:
    """Accuracy before and after, every strength that was tried, and what was written."""
    table = plain_table("", "before", "after", "change")
    table.add_row("accuracy", accuracy_cell(report.before), accuracy_cell(report.after), accuracy_change(report.before, report.after))
    yield table
    yield ""
    trials = plain_table("strength", "validation", "penalty", "held", "ms a step")
    for trial in report.trials:
        kept = " *" if trial.strength == report.strength else ""
        accuracy = "diverged" if trial.accuracy is None else f"{trial.accuracy:.4f}"
        penalty = f"{trial.penalty_before:.4g} → {trial.penalty_after:.4g}"
        strength = "none" if trial.strength == 0 else f"{trial.strength:.3g}"
        trials.add_row(strength + kept, accuracy, penalty, "yes" if trial.held else "no", f"{1e3 * trial.seconds:.0f}")
    yield trials
    yield "*: kept, the strongest that holds the accuracy on the validation split"
    yield f"accuracy: {report.after.metric} of {plural(report.after.count, 'test sample')} in ONNX Runtime, in float"
    yield from wrote(report.outputs)
    yield f"seed {report.seed}, {plural(report.threads, 'thread')}, {sum(report.stages.values()):.1f} s"
