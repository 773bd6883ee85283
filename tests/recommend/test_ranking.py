"""From predictions to recommendations."""

from __future__ import annotations

import pytest

from compresskit.errors import UsageError
from compresskit.recommend.constraints import Constraints
from compresskit.recommend.predictor import Prediction
from compresskit.recommend.ranking import Candidate, nearest, shortlist
from compresskit.recommend.settings import Setting


def candidate(quality: float, sparsity: float = 0.5, *, pruner: str = "l1", bits: int = 8, latency: float | None = None) -> Candidate:
    setting = Setting(pruner, "lsq", sparsity, bits)
    return Candidate(Prediction(setting, quality, quality - 0.1, quality + 0.1), 1e6 / setting.compression, latency)


CANDIDATES = [candidate(0.9, 0.5), candidate(0.8, 0.75), candidate(0.6, 0.9), candidate(0.7, 0.9, pruner="l1l2")]


def test_the_most_accurate_that_is_small_enough_comes_first() -> None:
    found = shortlist(CANDIDATES, Constraints(compression=10))
    assert [one.prediction.quality for one in found] == [0.8, 0.7, 0.6]


def test_where_accuracy_is_asked_for_the_smallest_comes_first() -> None:
    found = shortlist(CANDIDATES, Constraints(accuracy=0.7))
    assert [one.prediction.quality for one in found] == [0.7, 0.8, 0.9]


def test_every_constraint_has_to_hold() -> None:
    timed = [candidate(0.9, 0.5, latency=2.0), candidate(0.8, 0.75, latency=1.0)]
    assert [one.prediction.quality for one in shortlist(timed, Constraints(size=2e5, latency=1.5))] == [0.8]
    assert shortlist(timed, Constraints(accuracy=0.85, latency=1.5)) == []


def test_of_equal_ones_the_cheaper_comes_first() -> None:
    found = shortlist([candidate(0.8, pruner="l1l2"), candidate(0.8001, pruner="l1")], Constraints(compression=2))
    assert found[0].prediction.setting.pruner == "l1"


def test_errors_are_better_where_they_are_lower() -> None:
    found = shortlist(CANDIDATES, Constraints(compression=2), higher_is_better=False)
    assert [one.prediction.quality for one in found] == [0.6, 0.7, 0.8, 0.9]
    assert len(shortlist(CANDIDATES, Constraints(error=0.75), higher_is_better=False)) == 2


def test_the_nearest_misses_by_least() -> None:
    assert nearest(CANDIDATES, Constraints(compression=100)).compression == pytest.approx(40)
    assert nearest(CANDIDATES, Constraints(accuracy=0.99)).prediction.quality == 0.9


@pytest.mark.parametrize("values", [{}, {"compression": 0.0}, {"size": -1.0}, {"accuracy": float("nan")}, {"accuracy": 0.9, "error": 0.1}])
def test_constraints_say_something_that_can_be(values: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Constraints(**values)
