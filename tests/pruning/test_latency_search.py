"""A search meets what is measured, however wrong the prediction is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.errors import TargetError
from compresskit.pruning.latency_search import CLOSE, TRIES, Found, closest


def search(target: float, *, factor: float, beside: float = 0.0, step: float = 0.001, power: float = 1.0) -> Found[SimpleNamespace]:
    """On a machine that takes `beside` and `factor` times a power of what is predicted, of models of which there are `1 / step`."""

    def plan_at(limit: float) -> tuple[SimpleNamespace, float]:
        assert 0 < limit <= 1
        size = max(step, round(limit / step) * step)
        return SimpleNamespace(size=size), size

    return closest(
        plan_at,
        target,
        whole_ms=1.0,
        measure=lambda plan: beside + factor * plan.size**power,
    )


@given(target=st.floats(0.3, 0.9), factor=st.floats(0.5, 1), beside=st.floats(0, 0.2), power=st.floats(0.7, 1.5))
def test_targets_are_met_however_wrong_the_prediction(target: float, factor: float, beside: float, power: float) -> None:
    found = search(target, factor=factor, beside=beside, power=power)
    if target <= beside + factor:
        assert found.met
    assert found.met == (abs(found.best.measured - target) <= CLOSE * target)
    assert found.best in found.tries
    assert len(found.tries) <= TRIES
    assert all(abs(found.best.measured - target) <= abs(other.measured - target) for other in found.tries)


def test_a_true_prediction_needs_one_try() -> None:
    found = search(0.6, factor=1.0)
    assert len(found.tries) == 1
    assert found.tries[0].limit == 0.6


def test_a_machine_with_few_models_is_not_asked_for_one_twice() -> None:
    found = search(0.6, factor=1.0, step=0.25)
    assert not found.met
    assert found.best.measured == 0.5
    assert len({entry.predicted for entry in found.tries}) == len(found.tries)


def test_the_plan_that_is_returned_is_the_one_that_was_measured() -> None:
    found = search(0.5, factor=0.8, beside=0.1)
    assert found.plan.size == found.best.predicted


def test_errors_pass() -> None:
    def impossible(limit: float) -> Any:
        raise TargetError("nothing can be cut")

    with pytest.raises(TargetError, match="nothing can be cut"):
        closest(impossible, 0.5, whole_ms=1.0, measure=lambda plan: 1.0)
