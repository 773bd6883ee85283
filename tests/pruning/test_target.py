"""Plans hit their targets, keep what must be kept, and say when they miss."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compresskit.errors import TargetError
from compresskit.models.cost import total
from compresskit.models.graph import TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.zoo import build
from compresskit.pruning.cut import cut
from compresskit.pruning.footprint import Footprint, footprint
from compresskit.pruning.groups import Prunable, find_groups
from compresskit.pruning.target import Plan, plan

SETTINGS = settings(max_examples=15)


@cache
def prepared(name: str) -> tuple[Prunable, Footprint, float]:
    graph = graph_from_module(build(name).eval(), [TensorSpec("x", (None, 3, 32, 32))], source=name)
    prunable = find_groups(graph)
    cost = footprint(prunable.graph, prunable.coupling, "flops")
    return prunable, cost, cost(np.ones(prunable.coupling.classes, dtype=bool))


def random_scores(prunable: Prunable, seed: int) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.rand(group.size, generator=draw) for group in prunable.groups]


def planned(name: str, fraction: float, seed: int = 0, **options: object) -> tuple[Prunable, Plan]:
    prunable, cost, whole = prepared(name)
    return prunable, plan(prunable, random_scores(prunable, seed), cost, fraction * whole, **options)  # type: ignore[arg-type]


def kept(prunable: Prunable, chosen: Plan) -> list[int]:
    return [int(chosen.keep[classes].sum()) for classes in prunable.classes]


@pytest.mark.parametrize("name", ["resnet8", "resnet20"])
@SETTINGS
@given(fraction=st.floats(0.1, 0.95), seed=st.integers(0, 10**6))
def test_targets_are_hit_within_a_hundredth(name: str, fraction: float, seed: int) -> None:
    prunable, chosen = planned(name, fraction, seed)
    _, cost, whole = prepared(name)
    assert chosen.reached == cost(chosen.keep)
    assert chosen.met == (abs(chosen.reached / whole - fraction) <= 0.01 * fraction)
    assert chosen.met
    assert all(chosen.keep[labels].any() for labels in prunable.dimensions)
    assert all(chosen.keep[label] for label in prunable.coupling.pinned)


@SETTINGS
@given(fraction=st.floats(0.3, 0.9), floor=st.floats(0, 0.5), round_to=st.sampled_from([1, 4, 8]), scope=st.sampled_from(["global", "layer"]))
def test_floors_and_multiples_hold(fraction: float, floor: float, round_to: int, scope: str) -> None:
    prunable, chosen = planned("resnet20", fraction, floor=floor, round_to=round_to, scope=scope)
    for group, width in zip(prunable.groups, kept(prunable, chosen), strict=True):
        assert width >= max(1, floor * group.size - 1e-6)
        assert width % round_to == 0 or width == group.size


@SETTINGS
@given(seed=st.integers(0, 10**6), fraction=st.floats(0.2, 0.9))
def test_infinite_scores_are_never_cut(seed: int, fraction: float) -> None:
    prunable, cost, whole = prepared("resnet20")
    scores = random_scores(prunable, seed)
    for score in scores:
        score[score > 0.7] = torch.inf
    for scope in ("global", "layer"):
        chosen = plan(prunable, scores, cost, fraction * whole, scope=scope)
        assert all(chosen.keep[classes[score.isinf().numpy()]].all() for classes, score in zip(prunable.classes, scores, strict=True))


def test_the_least_important_go_first() -> None:
    prunable, cost, whole = prepared("resnet20")
    scores = random_scores(prunable, 3)
    chosen = plan(prunable, scores, cost, 0.5 * whole)
    gone = torch.cat([score[~torch.from_numpy(chosen.keep[classes])] for score, classes in zip(scores, prunable.classes, strict=True)])
    stays = torch.cat([score[torch.from_numpy(chosen.keep[classes])] for score, classes in zip(scores, prunable.classes, strict=True)])
    assert (stays < gone.max()).float().mean() < 0.02  # but for those whose loss would overshoot


def test_layers_shrink_alike() -> None:
    prunable, chosen = planned("resnet20", 0.5, scope="layer")
    fractions = [width / group.size for group, width in zip(prunable.groups, kept(prunable, chosen), strict=True)]
    assert max(fractions) - min(fractions) <= 1 / 16


def test_what_is_out_of_reach_is_approached() -> None:
    prunable, chosen = planned("resnet8", 0.05, floor=0.5)
    _, _, whole = prepared("resnet8")
    assert not chosen.met
    assert kept(prunable, chosen) == [group.size // 2 for group in prunable.groups]
    assert 0.2 * whole < chosen.reached < 0.35 * whole


def test_nothing_to_cut_is_an_error() -> None:
    graph = graph_from_module(nn.Linear(4, 8).eval(), [TensorSpec("x", (None, 4))], source="test")
    prunable = find_groups(graph)
    cost = footprint(graph, prunable.coupling, "params")
    with pytest.raises(TargetError, match="it is an output of the model"):
        plan(prunable, [], cost, 20)
    prunable, cost, whole = prepared("resnet8")
    with pytest.raises(TargetError, match="lower --floor"):
        plan(prunable, random_scores(prunable, 0), cost, 0.5 * whole, floor=0.99)


@pytest.mark.parametrize("quantity", ["flops", "params", "size"])
def test_a_footprint_is_the_cost_of_the_cut_model(quantity: str) -> None:
    prunable, _, _ = prepared("resnet8")
    cost = footprint(prunable.graph, prunable.coupling, quantity)  # type: ignore[arg-type]
    for keep in (np.ones(prunable.coupling.classes, dtype=bool), planned("resnet8", 0.37)[1].keep):
        real = total(cut(prunable.graph, prunable.coupling, keep))
        assert cost(keep) == {"flops": real.macs, "params": real.params, "size": real.bytes}[quantity]
