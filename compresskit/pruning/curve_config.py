"""What a curve of accuracy over MACs is asked for. Free of torch, so that the command line can build it before anything heavy loads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from compresskit.errors import UsageError
from compresskit.pruning.request import PruneRequest

STEP = 0.1  # between two points of a span, unless it says how many
MOST = 100  # points
_NUMBER = r"(0?\.\d+)"


@dataclass(frozen=True)
class CurveRequest:
    """One `compresskit prune --curve` from file to files: what `compresskit.pruning.curve.run` takes.

    Attributes:
        prune: how to prune to each point; its target and outputs stand for none.
        fractions: of the MACs to keep, falling.
        folder: for the models, which is made where it is missing.
        stem: of their names.
    """

    prune: PruneRequest
    fractions: tuple[float, ...]
    folder: Path
    stem: str

    @property
    def state(self) -> Path:
        """The file that says how far the curve is."""
        return self.folder / f"{self.stem}.curve.json"

    def model(self, fraction: float) -> Path:
        """The file of one point: net.0.50.onnx."""
        return self.folder / f"{self.stem}.{spelled(fraction)}.onnx"


def parse_curve(text: str) -> tuple[float, ...]:
    """Read the points of a curve, fractions of the MACs to keep: "0.9..0.2", "0.9..0.2:5" for five of them, "0.8,0.5,0.3". They come back falling.

    The points of a span are hundredths at even distances, a tenth unless it says how many.

    Raises:
        UsageError: of another form, a fraction that is not between 0 and 1, or two points that are one.
    """
    span = re.fullmatch(rf"{_NUMBER}\.\.{_NUMBER}(?::(\d{{1,4}}))?", text)
    if span:
        ends = float(span[1]), float(span[2])
        fractions = _spaced(max(ends), min(ends), int(span[3]) if span[3] else max(2, round(abs(ends[0] - ends[1]) / STEP) + 1))
    elif re.fullmatch(rf"{_NUMBER}(,{_NUMBER})*", text):
        fractions = [float(entry) for entry in text.split(",")]
    else:
        fractions = []
    if not fractions or not all(0 < fraction < 1 for fraction in fractions):
        raise UsageError(f"--curve takes fractions of the MACs to keep, as in 0.9..0.2, 0.9..0.2:5 or 0.8,0.5,0.3, not {text!r}")
    if len(set(fractions)) < len(fractions) or len(fractions) > MOST:
        raise UsageError(f"--curve {text} has {len(fractions)} points: expected up to {MOST}, each another, a hundredth apart in a span")
    return tuple(sorted(fractions, reverse=True))


def spelled(fraction: float) -> str:
    """A point as names of files hold it: with two decimals, or as many as it has."""
    return max(f"{fraction:.2f}", f"{fraction:g}", key=len)


def _spaced(high: float, low: float, points: int) -> list[float]:
    """`points` numbers from `high` to `low`, those between them rounded to hundredths; none for a single one."""
    if points < 2:
        return []
    between = [round(high - (high - low) * index / (points - 1), 2) for index in range(1, points - 1)]
    return [high, *between, low]
