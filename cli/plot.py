"""Drawings of what a command did: the widths of a model's layers, and curves of one figure over another."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compresskit.errors import UsageError
from compresskit.report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Series:
    """One curve: what it is of, its points (x, y) in the order in which they are joined, and where y may be, (low, high) a point, if known."""

    label: str
    points: Sequence[tuple[float, float]]
    intervals: Sequence[tuple[float, float]] = ()


def check_plot(path: Path, flag: str) -> None:
    """Find out, before any work is done, whether the drawing that `flag` asks for can be made for `path`.

    Raises:
        UsageError: its suffix is none of `FORMATS`, or Matplotlib is missing.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"cannot draw {path}: the suffix decides the format, one of {', '.join(FORMATS)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(f"{flag} needs Matplotlib: pip install 'compresskit[plot]'")


def draw_widths(report: Report, suffix: str) -> bytes:
    """Draw the width of every layer before (grey) and after (blue), as a file of the kind that `suffix` names."""
    from matplotlib.figure import Figure

    rows = report.layers
    figure = Figure(figsize=(8, max(2.0, 0.6 + 0.22 * len(rows))), layout="constrained")
    axes = figure.subplots()
    places = range(len(rows))
    axes.barh(places, [row.width_before for row in rows], height=0.8, color="0.85", label="before")
    axes.barh(places, [row.width_after for row in rows], height=0.5, color="tab:blue", label="after")
    axes.set_yticks(places, [row.name for row in rows], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("output channels or features")
    axes.set_title(f"{Path(report.model.source).name}: {report.before.macs:,} → {report.after.macs:,} MACs", fontsize=10)
    axes.legend(loc="lower right")
    return _image(figure, suffix)


def draw_curves(series: Sequence[Series], suffix: str, *, title: str, x: str, y: str) -> bytes:
    """Draw one or more curves over one another, as a file of the kind that `suffix` names; `x` and `y` name the axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for curve in series:
        axes.plot(*zip(*curve.points, strict=True), marker="o", markersize=3.5, label=curve.label)
        if curve.intervals:
            low, high = zip(*curve.intervals, strict=True)
            axes.fill_between([x for x, _ in curve.points], low, high, alpha=0.15, linewidth=0)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    return _image(figure, suffix)


def _image(figure: Figure, suffix: str) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format=suffix.lower().lstrip("."), dpi=150)
    return image.getvalue()
