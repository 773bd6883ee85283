"""Drawings of pruning before training: accuracy over what stays, steps looked ahead, and predicted against actual changes of the loss."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from compresskit.writers import write_bytes

Row = Mapping[str, Any]
AHEAD = {"3sp": 0, "prospr-1": 1, "prospr-2": 2, "prospr": 3}  # steps before the loss


def draw_tables(summary: Sequence[Row], path: Path) -> None:
    """Tables 3.1 and 3.4, table 3.5 and figure 3.6, as means with standard deviations over the seeds."""
    figure = Figure(figsize=(15, 5), layout="constrained")
    tables, steps, compute = figure.subplots(1, 3)
    parameters = [entry for entry in summary if entry["part"] in ("channels", "zeros")]
    dense = next((entry["mean"] for entry in parameters if entry["method"] == "dense"), None)
    for axes, entries, label in (
        (tables, parameters, "share of the parameters that stays"),
        (compute, [entry for entry in summary if entry["part"] == "compute"], "share of the multiply-accumulates that stays"),
    ):
        for method in dict.fromkeys(entry["method"] for entry in entries if entry["method"] != "dense"):
            runs = sorted((entry for entry in entries if entry["method"] == method), key=lambda entry: entry["kept"])
            style = "--" if "unstructured" in method else "-"
            _line(axes, [entry["kept"] for entry in runs], runs, method, style)
        shares = sorted({entry["kept"] for entry in entries if entry["method"] != "dense"})
        axes.set_xscale("log")
        axes.set_xticks(shares, labels=[f"{share:.0%}" for share in shares])
        axes.minorticks_off()
        _finish(axes, label, dense)
    ahead = [entry for entry in summary if entry["method"] in AHEAD and entry["part"] in ("channels", "steps")]
    for kept in sorted({entry["kept"] for entry in ahead if entry["part"] == "steps"}, reverse=True):
        runs = sorted((entry for entry in ahead if entry["kept"] == kept), key=lambda entry: AHEAD[entry["method"]])
        _line(steps, [AHEAD[entry["method"]] for entry in runs], runs, f"{1 - kept:.0%} pruned", "-")
    steps.set_xticks(range(4))
    _finish(steps, "M, the steps that ProsPr looks ahead (0: 3SP)", dense)
    _save(figure, path)


def draw_changes(panels: Mapping[str, Iterable[tuple[float, float]]], correlations: Mapping[str, float], path: Path) -> None:
    """Figure 3.2: a point a weight or channel, the change of the loss that its score predicts and the one that its removal made."""
    figure = Figure(figsize=(5 * len(panels), 4.5), layout="constrained")
    for axes, (name, points) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        predicted, actual = zip(*points, strict=True)
        axes.scatter(predicted, actual, s=8, alpha=0.6, color="black", linewidths=0)
        axes.axline((0, 0), slope=1, color="0.6", linestyle=":")
        axes.locator_params(axis="x", nbins=5)
        axes.set_title(f"{name}: correlation {correlations[name]:.2f}")
        axes.set_xlabel("predicted change of the loss")
        axes.set_ylabel("actual change")
        axes.grid(visible=True, alpha=0.25)
    _save(figure, path)


def _line(axes: Axes, places: Sequence[float], runs: Sequence[Row], label: str, style: str) -> None:
    means, deviations = [entry["mean"] for entry in runs], [entry["sd"] or 0.0 for entry in runs]
    axes.errorbar(places, means, yerr=deviations, label=label, linestyle=style, marker="o", markersize=4, capsize=3)


def _finish(axes: Axes, label: str, dense: float | None) -> None:
    if dense is not None:
        axes.axhline(dense, color="0.5", linestyle=":", label="not pruned")
    axes.set_xlabel(label)
    axes.set_ylabel("test accuracy, mean and standard deviation")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(fontsize=8)


def _save(figure: Figure, path: Path) -> None:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    write_bytes(path, stream.getvalue(), force=True)
