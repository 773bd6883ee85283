"""A drawing of what `codec_ablation.py` measured."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from compresskit.writers import write_bytes


def draw(found: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw what bits, tables and integers cost, a curve for each set."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    bits, tables, inference = figure.subplots(1, 3)
    for name, parts in found.items():
        if "bits" in parts:
            _draw_bits(bits, name, parts["bits"])
            tables.plot(*_columns(parts["tables"], "bits", "saved_percent"), marker="o", label=name)
            tables.plot(
                *_columns(parts["tables_for_own_bins"], "bits", "saved_percent"), marker="x", linestyle=":", color=tables.lines[-1].get_color()
            )
        _draw_inference(inference, name, parts["inference"])
    bits.set(title="Bits a latent", xlabel="bits a point, whole archives", ylabel="PSNR [dB]", xscale="log")
    bits.xaxis.set_minor_formatter(NullFormatter())
    tables.set(title="A table for each latent (dotted: bins of its own width)", xlabel="bits a latent", ylabel="bytes saved [%] over one table")
    inference.set(title="Integers narrower than the decoder's", xlabel="bits of weights / of sines", ylabel="PSNR lost [dB] against float64")
    inference.set_yscale("symlog", linthresh=0.01)
    for axes in (bits, tables, inference):
        axes.grid(visible=True, alpha=0.25)
        axes.legend(fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    write_bytes(path, stream.getvalue(), force=True)


def _draw_bits(axes: Axes, name: str, rows: list[dict[str, Any]]) -> None:
    axes.plot(*_columns(rows, "bpp", "psnr_of_the_stream"), marker="o", label=name)
    for row in rows:
        axes.annotate(str(row["bits"]), (row["bpp"], row["psnr_of_the_stream"]), xytext=(3, -10), textcoords="offset points", fontsize=8)


def _draw_inference(axes: Axes, name: str, rows: list[dict[str, Any]]) -> None:
    best = next(row["psnr"] for row in rows if row["inference"] == "float64")
    narrow = [row for row in rows if row["inference"].endswith(" in float64")]
    axes.plot([row["inference"].split()[0] for row in narrow], [best - row["psnr"] for row in narrow], marker="o", label=name)


def _columns(rows: list[dict[str, Any]], *names: str) -> list[list[float]]:
    return [[row[name] for row in rows] for name in names]
