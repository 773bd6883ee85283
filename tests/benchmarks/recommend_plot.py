"""Drawings of how good recommendations are: figures 3, 5 and 6 and tables 1 and 2 of Meta Compression, ours in colour and the paper's as crosses."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from compresskit.writers import write_bytes

Row = Mapping[str, Any]
FIGURES = ("top5", "top1", "error", "mae")


def rounded(found: Any) -> Any:
    """Four digits suffice."""
    if isinstance(found, Mapping):
        return {name: rounded(value) for name, value in found.items()}
    if isinstance(found, (list, tuple)):
        return [rounded(value) for value in found]
    return round(found, 4) if isinstance(found, float) else found


def draw_tables(result: Row, path: Path) -> None:
    """All panels of `recommend_tables.json`."""
    figure = Figure(figsize=(18, 10), layout="constrained")
    (reached, summary, pairs), (novel, compressed, choices) = figure.subplots(2, 3)
    paper = result["paper"]
    _reached(reached, result["figure_3"]["curves"], "compression at least [x]", "test accuracy")
    _bars(summary, result["figure_3"]["metrics"], paper["figure_3"], "figure 3b")
    rows = {row["pair"]: row for row in result["table_1"] if row["pair"] in paper["table_1"]}
    _bars(pairs, rows, paper["table_1"], "table 1", ("top1", "mae"))
    new = {row["new"]: row for row in result["table_2"] if "left_out" not in row}
    _bars(novel, new, paper["table_2"], "table 2")
    _reached(compressed, {"ours": result["figure_5"]["curves"]["keeps"]}, "allowed loss [part of what the model has over chance]", "compression [x]")
    compressed.set_yscale("log")
    for name, points in result.get("figure_6", {"curves": {}})["curves"].items():
        choices.plot([p["constraint"] for p in points], [p["top5"] for p in points], marker="o", markersize=4, label=f"{name} samples")
    _finish(choices, "figure 6a", "compression at least [x]", "top-5 accuracy")
    _save(figure, path)


def draw_regression(result: Row, path: Path) -> None:
    """Errors that are reached, and table 7 beside ours."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    reached, summary = figure.subplots(1, 2)
    _reached(reached, result["curves"], "compression at least [x]", "test RMSE [standard deviations of the target]")
    _bars(summary, result["metrics"], {"ours": result["paper"]}, "table 7", ("top5", "top1", "error", "mae", "tau"))
    reached.set_title("California housing, a new family of networks")
    _save(figure, path)


def _reached(axes: Axes, curves: Mapping[str, Sequence[Row]], x: str, y: str) -> None:
    """What exhaustive search, the best of five and the first reach (figures 3a and 5a)."""
    for name, points in curves.items():
        places = [point["constraint"] for point in points]
        if name == "ours":
            axes.plot(places, [point["best"] for point in points], color="black", linestyle="--", label="exhaustive search")
            axes.plot(places, [point["few"] for point in points], marker="o", markersize=4, label="best of our five")
        axes.plot(places, [point["first"] for point in points], marker="s", markersize=4, label="our first" if name == "ours" else "static ERM")
    _finish(axes, "figure 3a" if "accuracy" in y else "figure 5a", x, y)


def _bars(axes: Axes, rows: Mapping[str, Row], paper: Mapping[str, Any], title: str, figures: Sequence[str] = FIGURES) -> None:
    """A group of bars a row, and the paper's figures as crosses."""
    width = 0.8 / len(figures)
    crosses = []
    for place, name in enumerate(figures):
        shift = (place - (len(figures) - 1) / 2) * width
        axes.bar([i + shift for i in range(len(rows))], [row[name] or 0.0 for row in rows.values()], width, label=name)
        crosses += [(i + shift, paper[key][name]) for i, key in enumerate(rows) if isinstance(paper.get(key), Mapping) and name in paper[key]]
    axes.plot(*zip(*crosses, strict=True), "x", color="black", label="the paper's")
    axes.set_xticks(range(len(rows)), [key.replace(" and ", "\n").replace(" + ", "\n") for key in rows], fontsize=8)
    _finish(axes, title, "", "")


def _finish(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, which="both", alpha=0.25)
    if axes.has_data():
        axes.legend(fontsize=8)


def _save(figure: Figure, path: Path) -> None:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    write_bytes(path, stream.getvalue(), force=True)
