"""Compute awareness against costs counted by hand and by cutting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compresskit.errors import UsageError
from compresskit.models.graph import ModelGraph
from compresskit.pruning.at_init import compute_aware
from compresskit.pruning.at_init.compute import marginal_costs
from compresskit.pruning.config import Quantity
from compresskit.pruning.footprint import Footprint, footprint
from compresskit.pruning.groups import Prunable, find_groups


@pytest.fixture(scope="module")
def measured(plain_net: ModelGraph) -> tuple[Prunable, Footprint]:
    prunable = find_groups(plain_net)
    return prunable, footprint(prunable.graph, prunable.coupling, "flops")


def test_a_channel_costs_what_produces_and_reads_it(measured: tuple[Prunable, Footprint]) -> None:
    """MACs at 9 places: a filter of its own, and its part of each filter that reads it; the stem's are in both branches and the head."""
    stem, inner = marginal_costs(*measured)
    assert stem.tolist() == pytest.approx([9 * (2 * 9) + 9 * (9 * 3) + 9 * 3 + 9 * 3] * 4)
    assert inner.tolist() == pytest.approx([9 * (9 * 4) + 9 * 4] * 3)


@pytest.mark.parametrize("quantity", ["flops", "params"])
def test_a_channel_costs_what_cutting_it_saves(quantity: Quantity, plain_net: ModelGraph) -> None:
    prunable = find_groups(plain_net)
    cost = footprint(prunable.graph, prunable.coupling, quantity)
    for classes, saved in zip(prunable.classes, marginal_costs(prunable, cost), strict=True):
        for label, amount in zip(classes.tolist(), saved.tolist(), strict=True):
            keep = np.arange(prunable.coupling.classes) != label
            assert amount == pytest.approx(cost(np.ones_like(keep)) - cost(keep))


def test_without_smoothing_scores_are_per_mac(measured: tuple[Prunable, Footprint]) -> None:
    scores = [torch.rand(4), torch.rand(3)]
    costs = [float(costs[0]) for costs in marginal_costs(*measured)]
    for score, aware, cost in zip(scores, compute_aware(*measured, scores, 0.0), costs, strict=True):
        torch.testing.assert_close(aware, score / (cost / sum(costs)))


@given(smoothing=st.floats(0, 10))
def test_smoothing_draws_the_shares_together(smoothing: float, measured: tuple[Prunable, Footprint]) -> None:
    costs = [float(costs[0]) for costs in marginal_costs(*measured)]
    aware = compute_aware(*measured, [torch.ones(4), torch.ones(3)], smoothing)
    shares = [1 / float(score[0]) for score in aware]
    assert sum(shares) == pytest.approx(1)
    assert shares == pytest.approx([(cost / sum(costs) + smoothing) / (1 + 2 * smoothing) for cost in costs])


@pytest.mark.parametrize("smoothing", [-0.1, float("nan"), float("inf")])
def test_smoothing_that_is_no_amount_is_refused(smoothing: float, measured: tuple[Prunable, Footprint]) -> None:
    with pytest.raises(UsageError, match="--smoothing"):
        compute_aware(*measured, [torch.ones(4), torch.ones(3)], smoothing)
