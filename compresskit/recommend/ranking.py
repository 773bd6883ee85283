"""From predictions to recommendations: the settings that meet the constraints, best first (Meta Compression, section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from compresskit.recommend.constraints import Constraints
from compresskit.recommend.predictor import Prediction

TIE = 0.0005
"""Qualities nearer than this are ties, and the cheaper setting goes first."""
TRAINED = {"level": 0, "level-tuned": 2, "l1": 2, "slimming": 3, "taylor": 2, "l1l2": 3, "uniform": 0, "dorefa": 2, "lsq": 2, "none": 0}
"""How much work a method is: for ties."""


@dataclass(frozen=True)
class Candidate:
    """A setting with all that is predicted of it.

    Attributes:
        size: bytes of the parameters.
        latency: milliseconds; None where it was not asked for.
    """

    prediction: Prediction
    size: float
    latency: float | None = None

    @property
    def compression(self) -> float:
        return self.prediction.setting.compression


def shortlist(candidates: Sequence[Candidate], constraints: Constraints, *, higher_is_better: bool = True) -> list[Candidate]:
    """Those that meet the constraints: the best quality first; where a quality is asked for, the highest compression first."""
    found = [candidate for candidate in candidates if _shortfall(candidate, constraints, higher_is_better) <= 0]
    if constraints.accuracy is not None or constraints.error is not None:
        return sorted(found, key=lambda c: (-c.compression, *_by_quality(c, higher_is_better)))
    return sorted(found, key=lambda c: _by_quality(c, higher_is_better))


def nearest(candidates: Sequence[Candidate], constraints: Constraints, *, higher_is_better: bool = True) -> Candidate:
    """The setting that misses the constraints by least, in proportion."""
    return min(candidates, key=lambda c: _shortfall(c, constraints, higher_is_better))


def _by_quality(candidate: Candidate, higher_is_better: bool) -> tuple[float, float, float]:
    setting = candidate.prediction.setting
    sign = -1 if higher_is_better else 1
    work = TRAINED[setting.pruner] + TRAINED[setting.quantizer]
    return round(sign * candidate.prediction.quality / TIE), float(work), -candidate.compression


def _shortfall(candidate: Candidate, asked: Constraints, higher_is_better: bool) -> float:
    """By which factor the worst constraint is missed, as a logarithm; 0 or less where all are met."""
    ratios = [(asked.compression, candidate.compression, 1), (asked.size, candidate.size, -1), (asked.latency, candidate.latency, -1)]
    ratios.append((asked.accuracy, candidate.prediction.quality, 1) if higher_is_better else (asked.error, candidate.prediction.quality, -1))
    missed = [sign * math.log(max(limit, 1e-12) / max(value, 1e-12)) for limit, value, sign in ratios if limit is not None and value is not None]
    return max((value for value in missed if value > 1e-9), default=0.0)
