"""Normalizers make groups comparable and leave the order within a group alone."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compresskit.errors import UsageError
from compresskit.pruning.criteria import NORMALIZERS, normalize

scores = st.lists(st.floats(0, 1000, width=32, allow_subnormal=False), min_size=1, max_size=20).map(torch.tensor)


@given(scores)
def test_each_divides_by_its_scale(values: torch.Tensor) -> None:
    assert torch.equal(normalize(values, "none"), values)
    for how, scale in (("mean", values.mean()), ("max", values.max())):
        torch.testing.assert_close(normalize(values, how) * scale, values, rtol=1e-4, atol=1e-4)


@given(scores, st.sampled_from(sorted(NORMALIZERS)))
def test_order_within_a_group_is_kept(values: torch.Tensor, how: str) -> None:
    ordered = normalize(values, how)[values.argsort()]
    assert (ordered.diff() >= 0).all()


@given(scores, st.sampled_from(["mean", "max"]), st.floats(0.1, 10))
def test_the_unit_of_the_scores_does_not_matter(values: torch.Tensor, how: str, factor: float) -> None:
    torch.testing.assert_close(normalize(values * factor, how), normalize(values, how), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("how", NORMALIZERS)
def test_infinite_scores_stay_and_do_not_count(how: str) -> None:
    with_infinity = normalize(torch.tensor([1.0, 3.0, math.inf]), how)
    assert torch.equal(with_infinity[:2], normalize(torch.tensor([1.0, 3.0]), how))
    assert with_infinity[2] == math.inf
    assert normalize(torch.tensor([math.inf, math.inf]), how).tolist() == [math.inf] * 2
    assert normalize(torch.zeros(3), how).tolist() == [0.0] * 3


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(UsageError, match=r"unknown normalizer 'median'.* choose from none, mean, max"):
        normalize(torch.ones(2), "median")
