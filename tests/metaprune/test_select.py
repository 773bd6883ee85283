"""Which epoch is chosen: the flat part of a curve, and the bisection over epochs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.metaprune.reports import CurvePoint
from compresskit.metaprune.select import best, flat_part, select


def curve(*points: tuple[float, float]) -> tuple[CurvePoint, ...]:
    return tuple(CurvePoint(*point) for point in points)


@pytest.mark.parametrize(
    ("points", "flat"),
    [
        (curve((1, 0.9), (2, 0.9), (3, 0.5)), 2.0),  # at the point itself where it is just high enough
        (curve((1, 1.0), (2, 0.8)), 1.5),  # half way down
        (curve((1, 0.95), (2, 0.92)), 2.0),  # never below
        (curve((1, 0.8), (2, 0.95)), 1.0),  # never above where it counts
        (curve((1, 0.95), (2, 0.85), (3, 0.95)), 1.5),  # what comes after the first fall does not count
        ((), 1.0),
    ],
)
def test_the_flat_part_ends_where_the_curve_first_falls_below(points: tuple[CurvePoint, ...], flat: float) -> None:
    assert flat_part(points, 0.9) == pytest.approx(flat)


@given(epochs=st.integers(1, 100), last=st.integers(0, 100))
def test_bisection_finds_the_last_epoch_that_is_accurate_enough(epochs: int, last: int) -> None:
    """Where accuracy falls and the flat part grows with the epoch, as in the paper's figure 6."""
    asked = []

    def curve_of(epoch: int) -> tuple[CurvePoint, ...]:
        asked.append(epoch)
        accuracy = 0.9 if epoch <= last else 0.5
        return curve((1, accuracy), (1 + epoch, accuracy), (2 + epoch, 0.0))

    judged = select(epochs, curve_of, 0.8)
    assert [one.epoch for one in judged] == asked
    assert len(asked) <= math.floor(math.log2(epochs)) + 1
    if last >= 1:
        assert best(judged).epoch == min(last, epochs)


def test_of_equally_long_flat_parts_the_more_accurate_wins() -> None:
    judged = select(3, lambda epoch: curve((1, 0.95 - 0.01 * epoch), (2, 0.9)), 0.5)
    assert {one.flat for one in judged} == {2.0}
    assert best(judged).epoch == min(one.epoch for one in judged)
