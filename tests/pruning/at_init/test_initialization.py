"""Weights drawn anew, and brought back to their variance."""

from __future__ import annotations

import copy
from collections.abc import Callable
from math import sqrt

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compresskit.models.graph import ModelGraph
from compresskit.pruning.at_init import reinit, rescale
from compresskit.pruning.cut import cut
from compresskit.pruning.groups import find_groups

Lift = Callable[..., ModelGraph]


class Kinds(nn.Module):
    """Every kind of convolution, a position embedding, and a linear layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.each = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped, self.norm, self.up = nn.Conv2d(8, 8, 1, groups=2), nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 4, 2)
        self.position = nn.Parameter(torch.zeros(1, 8, 1, 1))
        self.one, self.two, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.grouped(self.each(self.first(x)) + self.position)).relu()
        return self.head(self.two(self.one(self.up(y).mean((2, 3))).relu()).relu())


@pytest.fixture(scope="module")
def kinds(lifted: Lift) -> ModelGraph:
    return lifted(Kinds(), (None, 2, 5, 5))


@pytest.fixture(scope="module")
def narrower(kinds: ModelGraph) -> ModelGraph:
    """Half of every group's channels."""
    prunable = find_groups(kinds)
    keep = np.ones(prunable.coupling.classes, dtype=bool)
    for classes in prunable.classes:
        keep[classes[1::2]] = False
    return cut(prunable.graph, prunable.coupling, keep)


def named(graph: ModelGraph) -> dict[str, Tensor]:
    return copy.deepcopy(dict(graph.module.state_dict()))


def test_new_weights_come_from_the_seed_and_nothing_else(kinds: ModelGraph) -> None:
    before, state = named(kinds), torch.get_rng_state()
    first, again, other = (named(reinit(kinds, seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in named(kinds).items())
    assert all(torch.equal(first[name], again[name]) for name in first)
    for name in ("first.weight", "each.weight", "up.weight", "two.weight", "head.bias"):
        assert not torch.equal(first[name], before[name])
        assert not torch.equal(first[name], other[name])


def test_new_weights_have_the_range_that_their_layers_draw_from(kinds: ModelGraph, narrower: ModelGraph) -> None:
    for graph in (kinds, narrower):
        new = reinit(graph, 0).module
        for name, fan_in in (("first", 18), ("head", new.get_submodule("head").in_features), ("each", 9)):
            weight = new.get_parameter(f"{name}.weight").detach()
            assert 0.5 / sqrt(fan_in) < float(weight.abs().max()) <= 1 / sqrt(fan_in)
        assert (new.get_parameter("norm.weight") == 1).all()
        assert not new.get_parameter("norm.bias").any()


def test_a_weight_under_two_names_stays_one(kinds: ModelGraph) -> None:
    new = reinit(kinds, 0).module
    assert new.get_submodule("two").weight is new.get_submodule("two_1").weight


def test_zeros_and_free_parameters_stay(kinds: ModelGraph) -> None:
    zeroed = kinds.with_module(copy.deepcopy(kinds.module))
    for name in ("norm.weight", "head.bias"):
        nn.init.zeros_(zeroed.module.get_parameter(name))
    new = reinit(zeroed, 0).module
    assert not new.get_parameter("norm.weight").any()
    assert not new.get_parameter("head.bias").any()
    assert torch.equal(new.get_parameter("position"), kinds.module.get_parameter("position"))


def test_statistics_of_norms_begin_anew(kinds: ModelGraph) -> None:
    used = kinds.with_module(copy.deepcopy(kinds.module))
    used.module.get_buffer("norm.running_var").fill_(7)
    assert (reinit(used, 0).module.get_buffer("norm.running_var") == 1).all()


def test_weights_grow_by_the_root_of_the_lost_fan_out(kinds: ModelGraph, narrower: ModelGraph) -> None:
    before, after = named(narrower), named(rescale(kinds, narrower))
    wider = {"first.weight", "grouped.weight", "up.weight", "two.weight", "two_1.weight"}
    for name, value in before.items():
        torch.testing.assert_close(after[name], value * sqrt(2) if name in wider else value)
    assert all(torch.equal(before[name], value) for name, value in named(narrower).items())


def test_a_network_that_was_not_cut_is_not_rescaled(kinds: ModelGraph) -> None:
    before, after = named(kinds), named(rescale(kinds, kinds))
    assert all(torch.equal(before[name], value) for name, value in after.items())
