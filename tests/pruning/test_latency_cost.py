"""The predicted latency of a cut is that of the cut model; its relaxation agrees, and slopes are its gradient."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from compresskit.errors import TargetError
from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.latency_operators import factorable, factored, fingerprint, uses
from compresskit.models.latency_surface import axis
from compresskit.models.latency_table import Entry, Table, Whole
from compresskit.models.lift import graph_from_module
from compresskit.models.zoo import build
from compresskit.pruning.blocks import open_blocks
from compresskit.pruning.cut import cut
from compresskit.pruning.factors import factorize
from compresskit.pruning.groups import Prunable, find_groups
from compresskit.pruning.latency_cost import LatencyFootprint, check_limit
from compresskit.pruning.lowrank import paying
from compresskit.pruning.target import plan

BESIDE = 1.25  # the whole model over the sum of its operators


class Heads(nn.Module):
    """Self-attention with heads that can be cut, between linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(12, 24) for _ in range(3))
        self.out = nn.Linear(24, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 7, 12) -> (N, 7, 5)."""
        split = [layer(x).unflatten(2, (4, 6)).transpose(1, 2) for layer in (self.query, self.key, self.value)]
        return self.out(F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2))


NETS: dict[str, tuple[nn.Module, tuple[int | None, ...]]] = {
    "resnet8": (build("resnet8"), (None, 3, 16, 16)),
    "depthwise": (
        nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, groups=16), nn.ReLU(), nn.Conv2d(16, 4, 1)),
        (None, 3, 8, 8),
    ),
    "heads": (Heads(), (None, 7, 12)),
}


def made_up(graph: ModelGraph, *, factors: bool = False) -> Table:
    """A table of a machine that takes a different while for each operator, faster than its widths grow; with those that `factors` make."""
    calls = uses(graph)
    every = [*calls, *(part for use in calls if factors and factorable(use) for part in factored(use, use.rank))]
    entries = []
    for number, operator in enumerate(dict.fromkeys(use.operator for use in every)):
        alike = [use for use in every if use.operator == operator]
        inputs, outputs = axis({use.inputs for use in alike}), axis({use.outputs for use in alike})
        ms = (1 + number) * np.outer(np.array(inputs) ** 0.9, 1 + np.array(outputs) ** 1.1) / 1000
        entries.append(Entry(operator, inputs, outputs, tuple(map(tuple, ms.tolist()))))
    bare = Table("made up", "1.0", 1, 1, tuple(entries), {})
    return Table("made up", "1.0", 1, 1, tuple(entries), {fingerprint(calls): Whole(BESIDE * bare.summed(calls), bare.summed(calls))})


@cache
def prepared(name: str) -> tuple[Prunable, Table, LatencyFootprint]:
    net, shape = NETS[name]
    prunable = find_groups(graph_from_module(net.eval(), [TensorSpec("x", shape)], source=name))
    table = made_up(prunable.graph)
    return prunable, table, LatencyFootprint(prunable.graph, prunable.coupling, table)


def random_keep(prunable: Prunable, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    keep = np.ones(prunable.coupling.classes, dtype=bool)
    for classes in prunable.classes:
        keep[classes] = rng.random(len(classes)) < rng.random()
    for labels in prunable.dimensions:
        keep[labels[:2]] = True  # a depthwise convolution of one channel is a plain one
    return keep


def fractions(cost: LatencyFootprint, keep: np.ndarray) -> torch.Tensor:
    return torch.tensor([keep[labels].mean() for labels in cost.dimensions], dtype=torch.float64)


@pytest.mark.parametrize("name", NETS)
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_the_latency_of_a_cut_is_that_of_the_cut_model(name: str, seed: int) -> None:
    prunable, table, cost = prepared(name)
    keep = random_keep(prunable, seed)
    smaller = uses(cut(prunable.graph, prunable.coupling, keep))
    if name == "heads":  # the table knows only four heads; fewer take as much less
        heads = next(use for use in smaller if use.operator.kind == "attention").operator.shape[1] / 4
        known = uses(prunable.graph)
        others = [(mine, theirs) for mine, theirs in zip(smaller, known, strict=True) if mine.operator.kind != "attention"]
        attention = [theirs for theirs in known if theirs.operator.kind == "attention"]
        predicted = table.summed([mine for mine, _ in others]) + heads * table.summed(attention)
    else:
        predicted = table.summed(smaller)
    assert cost(keep) == pytest.approx(BESIDE * predicted)
    assert float(cost.relaxed(fractions(cost, keep))) == pytest.approx(cost(keep))


@pytest.mark.parametrize("name", NETS)
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_the_latency_of_ranks_is_that_of_the_factorized_model(name: str, seed: int) -> None:
    prunable = open_blocks(prepared(name)[0].graph, ("lowrank",))
    table = made_up(prunable.graph, factors=True)
    cost = LatencyFootprint(prunable.graph, prunable.coupling, table, prunable.ranks)
    rng = np.random.default_rng(seed)
    keep = np.ones(prunable.coupling.classes, dtype=bool)
    for labels in prunable.ranks.values():
        keep[labels[rng.integers(1, len(labels) + 1) :]] = False
    smaller = factorize(prunable.graph, paying(prunable, cost, keep), {})
    assert cost.whole == pytest.approx(table.whole(uses(prunable.graph)).ms)
    assert cost(keep) == pytest.approx(BESIDE * table.summed(uses(smaller)))
    assert float(cost.relaxed(fractions(cost, keep))) == pytest.approx(cost(keep))


@pytest.mark.parametrize("name", NETS)
def test_nothing_cut_is_the_whole_model(name: str) -> None:
    prunable, table, cost = prepared(name)
    assert cost.whole == pytest.approx(table.whole(uses(prunable.graph)).ms)
    assert cost(np.ones(prunable.coupling.classes, dtype=bool)) == pytest.approx(cost.whole)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_gradients_are_finite_differences(seed: int) -> None:
    _, _, cost = prepared("resnet8")
    kept = torch.from_numpy(np.random.default_rng(seed).uniform(0.1, 1, len(cost.dimensions))).requires_grad_()
    (gradient,) = torch.autograd.grad(cost.relaxed(kept), kept)
    with torch.no_grad():
        for index, step in enumerate(torch.eye(len(kept), dtype=torch.float64) * 1e-7):
            slope = float(cost.relaxed(kept + step) - cost.relaxed(kept - step)) / 2e-7
            assert float(gradient[index]) == pytest.approx(slope, rel=1e-3, abs=1e-5)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_a_wider_model_is_never_predicted_faster(seed: int) -> None:
    prunable, _, cost = prepared("resnet8")
    keep = random_keep(prunable, seed)
    wider = keep | random_keep(prunable, seed + 1)
    assert cost(wider) >= cost(keep) - 1e-9
    assert cost(keep) >= cost.least(prunable.coupling.pinned) - 1e-9


def test_float32_and_training() -> None:
    _, _, cost = prepared("resnet8")
    kept = torch.ones(len(cost.dimensions), requires_grad=True)
    latency = cost.relaxed(kept)
    latency.backward()
    assert latency.dtype == torch.float32
    assert kept.grad is not None
    assert (kept.grad > 0).all()


def test_a_plan_meets_a_latency() -> None:
    prunable, _, cost = prepared("resnet8")
    scores = [torch.arange(group.size, dtype=torch.float32) for group in prunable.groups]
    chosen = plan(prunable, scores, cost, 0.5 * cost.whole)
    assert chosen.met
    assert chosen.reached == pytest.approx(0.5 * cost.whole, rel=0.01)


def test_what_is_in_no_table_stays() -> None:
    """Recurrent layers are not timed alone: what they take of the whole does not shrink with the others."""

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.after, self.recurrent = nn.Linear(4, 16), nn.Linear(16, 8), nn.LSTM(8, 3, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """(N, 6, 4) -> (N, 6, 3)."""
            return self.recurrent(self.after(self.before(x).relu()))[0]

    prunable = find_groups(graph_from_module(Recurrent().eval(), [TensorSpec("x", (None, 6, 4))], source="test"))
    table = made_up(prunable.graph)
    cost = LatencyFootprint(prunable.graph, prunable.coupling, table)
    keep = random_keep(prunable, 0)
    beside = (BESIDE - 1) * table.summed(uses(prunable.graph))
    assert cost.whole == pytest.approx(table.summed(uses(prunable.graph)) + beside)
    assert cost(keep) == pytest.approx(table.summed(uses(cut(prunable.graph, prunable.coupling, keep))) + beside)


def test_a_model_that_cannot_be_cut_has_one_latency() -> None:
    graph = graph_from_module(nn.ReLU().eval(), [TensorSpec("x", (None, 4))], source="test")
    prunable = find_groups(graph)
    cost = LatencyFootprint(graph, prunable.coupling, made_up_empty())
    assert cost(np.ones(prunable.coupling.classes, dtype=bool)) == cost.whole == 0
    assert float(cost.relaxed(torch.ones(0))) == 0


def made_up_empty() -> Table:
    return Table("made up", "1.0", 1, 1, (), {})


def test_a_limit_below_the_floor_is_refused() -> None:
    prunable, _, cost = prepared("resnet8")
    floor = cost.least(prunable.coupling.pinned)
    check_limit(cost, prunable.coupling, floor)
    with pytest.raises(TargetError, match=rf"--latency {0.5 * floor:.3g}ms is out of reach: .* takes {floor:.3g} ms"):
        check_limit(cost, prunable.coupling, 0.5 * floor)
