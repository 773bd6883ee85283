"""Whether a problem is like those that the predictor was fitted to: by its distance from the nearest, beside theirs from each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compresskit.recommend.predictor import Predictor
from compresskit.recommend.table import Problem
from compresskit.recommend.vectors import Scaling

FAR = 1.5
"""Times the largest distance that one of the known problems has from its nearest."""


@dataclass(frozen=True)
class Novelty:
    """How new a problem is.

    Attributes:
        nearest: names of the known problems, the nearest first.
        distances: from them: root mean square over the scaled features that both have.
        usual: the largest distance between a known problem and its nearest.
    """

    nearest: tuple[str, ...]
    distances: tuple[float, ...]
    usual: float

    @property
    def unlike(self) -> bool:
        """Whether it is unlike anything seen."""
        return self.distances[0] > FAR * self.usual


def novelty(predictor: Predictor, problem: Problem) -> Novelty:
    """Compare `problem` with those of `predictor`."""
    known = predictor.problems
    distances = [_distance(predictor.scaling, problem, other) for other in known]
    order = np.argsort(distances, kind="stable")
    own = [min(_distance(predictor.scaling, one, other) for other in known if other.name != one.name) for one in known]
    return Novelty(tuple(known[i].name for i in order), tuple(distances[i] for i in order), max(own))


def _distance(scaling: Scaling, one: Problem, other: Problem) -> float:
    difference = scaling(one) - scaling(other)
    known = difference[np.isfinite(difference)]
    return float(np.sqrt(np.mean(known**2))) if len(known) else float("inf")
