"""Curves of PSNR over rate, with the points published for COIN++ and COIN."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from compresskit.writers import write_bytes

# Dupont et al. 2022 and 2021, as published with the reference implementation: (bpp, or kbps for sound; PSNR [dB]).
# Rates are entropies, and test data and preparation were theirs: FastMRI, ERA5 at 46 x 90, all of Kodak and of CIFAR-10's test images.
ERA5 = ((0.0041, 38.66), (0.0083, 43.94), (0.0103, 46.01), (0.0122, 46.74), (0.0186, 47.52), (0.0215, 47.75))
PUBLISHED: dict[str, dict[str, tuple[tuple[float, float], ...]]] = {
    "cifar": {
        "COIN++": ((0.55, 24.22), (1.10, 27.03), (1.65, 28.90), (2.20, 30.45), (3.29, 32.42), (4.06, 33.69), (5.41, 35.26)),
        "COIN": ((3.61, 25.79), (4.64, 27.44), (5.80, 29.07), (7.08, 30.67), (8.48, 32.33)),
    },
    "kodak": {
        "COIN++": ((0.067, 23.68), (0.132, 24.93), (0.266, 26.14), (0.398, 27.03), (0.537, 27.80)),
        "COIN": ((0.037, 22.41), (0.074, 23.21), (0.160, 24.64), (0.307, 26.41), (0.611, 28.41), (1.209, 30.64)),
    },
    "mri": {"COIN++": ((0.0166, 28.63), (0.0202, 29.04), (0.0336, 30.23), (0.0839, 32.28), (0.137, 33.52), (0.168, 34.04))},
    "climate": {"COIN++": ERA5},
    "archive": {"COIN++": ERA5},
    "speech": {"COIN++": ((5.63, 36.01), (13.8, 39.35), (27.5, 42.90), (65.2, 48.12), (131.0, 54.68))},
}


def draw_curves(name: str, rows: Iterable[dict[str, Any]], path: Path) -> None:
    """Draw the rows without a guarantee: of each codec those that no other row of it beats in both rate and PSNR."""
    unit = "kbps" if name == "speech" else "bpp"
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["guarantee"] == "none" and row["psnr"] is not None:
            points.setdefault(row["codec"], []).append((row[unit], row["psnr"]))
            if "bpp_of_latents" in row:
                points.setdefault(f"{row['codec']}, latents alone", []).append((row["bpp_of_latents"], row["psnr"]))
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    for codec, found in sorted(points.items(), key=lambda pair: "ours" not in pair[0]):
        ours = "ours" in codec
        axes.plot(
            *zip(*_front(found), strict=True),
            marker="o" if ours else ".",
            linestyle="--" if codec.endswith("alone") else "-",
            linewidth=2.5 if ours else 1,
            color="black" if ours else None,
            label=codec,
        )
    for codec, published in PUBLISHED[name].items():
        axes.plot(*zip(*published, strict=True), linestyle=":", marker="x", color="0.45" if codec == "COIN++" else "0.7", label=f"{codec}, published")
    axes.set_xscale("log")
    axes.set_xlabel("kbit/s" if unit == "kbps" else "bits a point, whole files counted")
    axes.set_ylabel("PSNR [dB], mean of the items")
    axes.set_title(name)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    write_bytes(path, stream.getvalue(), force=True)


def _front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """By rate, each better than all before it."""
    front: list[tuple[float, float]] = []
    for rate, psnr in sorted(points):
        if not front or psnr > front[-1][1]:
            front.append((rate, psnr))
    return front
