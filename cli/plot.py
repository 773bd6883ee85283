"""A drawing of what a command did to the widths of a model's layers."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

from compresskit.errors import UsageError
from compresskit.report import Report

FORMATS = (".png", ".svg", ".pdf")


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
    image = io.BytesIO()
    figure.savefig(image, format=suffix.lower().lstrip("."), dpi=150)
    return image.getvalue()
