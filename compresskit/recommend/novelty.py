"""Whether a problem is like those that the predictor was fitted to: by its distance from them beside theirs from each other, and by its data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compresskit.recommend.predictor import Predictor
from compresskit.recommend.table import Problem
from compresskit.recommend.vectors import Scaling

FAR = 1.5
"""Times the largest distance that one of the known problems has from its nearest."""
TOLERANCE = 1e-4  # tables keep six digits
KIND = ("classes", "channels", "log_inputs")
"""Features that tell one kind of data from another; known problems are often of one kind, and a feature that never varied has no distances."""


@dataclass(frozen=True)
class Novelty:
    """How new a problem is.

    Attributes:
        nearest: names of the known problems, the nearest first.
        distances: from them: root mean square over the scaled features that both have.
        usual: the largest distance between a known problem and its nearest.
        strange: features of the kind of data that are outside of all that is known.
    """

    nearest: tuple[str, ...]
    distances: tuple[float, ...]
    usual: float
    strange: tuple[str, ...] = ()

    @property
    def unlike(self) -> bool:
        """Whether it is unlike anything seen."""
        return self.distances[0] > FAR * self.usual or bool(self.strange)


def novelty(predictor: Predictor, problem: Problem) -> Novelty:
    """Compare `problem` with those of `predictor`."""
    known = predictor.problems
    distances = [_distance(predictor.scaling, problem, other) for other in known]
    order = np.argsort(distances, kind="stable")
    own = [min(_distance(predictor.scaling, one, other) for other in known if other.name != one.name) for one in known]
    strange = tuple(name for name in KIND if _outside(name, problem, known))
    return Novelty(tuple(known[i].name for i in order), tuple(distances[i] for i in order), max(own), strange)


def _outside(name: str, problem: Problem, known: Sequence[Problem]) -> bool:
    value = problem.features.get(name, math.nan)
    seen = [other.features[name] for other in known if name in other.features]
    return bool(seen) and (value < min(seen) - TOLERANCE or value > max(seen) + TOLERANCE)


def _distance(scaling: Scaling, one: Problem, other: Problem) -> float:
    difference = scaling(one) - scaling(other)
    known = difference[np.isfinite(difference)]
    return float(np.sqrt(np.mean(known**2))) if len(known) else float("inf")
