"""Points of a curve as users write them, and the files that they become."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.errors import UsageError
from compresskit.pruning.config import PruneConfig, Target
from compresskit.pruning.curve_config import CurveRequest, parse_curve, spelled
from compresskit.pruning.request import PruneRequest


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("0.9..0.2", (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)),
        ("0.2..0.9", (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)),
        ("0.9..0.2:4", (0.9, 0.67, 0.43, 0.2)),
        (".55..0.5", (0.55, 0.5)),
        ("0.3,0.8,0.555", (0.8, 0.555, 0.3)),
        ("0.5", (0.5,)),
    ],
)
def test_what_is_asked_for(text: str, points: tuple[float, ...]) -> None:
    assert parse_curve(text) == points


@pytest.mark.parametrize("text", ["", "x", "1.5", "0", "0.9..", "0.9..1.0", "0.9..0.0", "0.9..0.2:1", "0.9..0.2:x", "0.9-0.2", "0.9, 0.5", "-0.5"])
def test_what_is_no_curve(text: str) -> None:
    with pytest.raises(UsageError, match=r"--curve takes fractions of the MACs to keep, as in 0\.9\.\.0\.2"):
        parse_curve(text)


@pytest.mark.parametrize("text", ["0.5,0.5", "0.51..0.5:5", "0.9..0.2:9999"])
def test_points_that_are_one(text: str) -> None:
    with pytest.raises(UsageError, match="expected up to 100, each another"):
        parse_curve(text)


@given(st.integers(1, 99), st.integers(1, 99), st.integers(2, 20))
def test_a_span_falls_from_end_to_end(first: int, last: int, points: int) -> None:
    """As many as asked for, none twice, each a hundredth, and none further than half a hundredth from its place; or refused."""
    high, low = max(first, last) / 100, min(first, last) / 100
    try:
        found = parse_curve(f"{first / 100}..{last / 100}:{points}")
    except UsageError:
        assert high - low < 0.01 * (points - 0.5)
        return
    assert (len(found), found[0], found[-1]) == (points, high, low)
    assert all(after < before for before, after in itertools.pairwise(found))
    assert all(abs(one - (high - (high - low) * index / (points - 1))) <= 0.00501 for index, one in enumerate(found))


@given(st.lists(st.integers(1, 9999), min_size=1, max_size=20, unique=True))
def test_names_of_files_are_distinct_and_tell_the_fraction(parts: list[int]) -> None:
    fractions = parse_curve(",".join(f"{part / 10000:g}" if part >= 10 else f"{part / 10000:.4f}" for part in parts))
    request = CurveRequest(PruneRequest("net.pt", config=PruneConfig(target=Target("flops", 0.5))), fractions, Path("out"), "net")
    names = [request.model(fraction).name for fraction in fractions]
    assert len(set(names)) == len(parts)
    assert [float(name.removeprefix("net.").removesuffix(".onnx")) for name in names] == pytest.approx(list(fractions))


def test_names_have_two_decimals() -> None:
    assert [spelled(fraction) for fraction in (0.5, 0.25, 0.125)] == ["0.50", "0.25", "0.125"]
