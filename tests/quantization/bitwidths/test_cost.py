from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compresskit.pruning.surrogate.norms import NORMS
from compresskit.quantization.bitwidths.assign import TOLERANCE, learned_widths, nearest_widths
from compresskit.quantization.bitwidths.cost import WIDTHS, WidthCost, width_cost
from compresskit.quantization.quantized import Quantized

COST = WidthCost(("a", "b", "c"), np.array([[2.0, 4, 8], [20, 40, 80], [6, 12, 24]]), 448.0)


def fraction(indices: tuple[int, ...]) -> float:
    return COST.of({name: WIDTHS[index] for name, index in zip(COST.names, indices, strict=True)})


@pytest.mark.parametrize("indices", list(itertools.product(range(3), repeat=3)))
def test_gates_of_zero_and_one_cost_what_their_widths_do(indices: tuple[int, ...]) -> None:
    mask = torch.tensor([[float(index > 0), float(index > 1)] for index in indices])
    assert COST.standing(mask).item() == pytest.approx(fraction(indices))
    assert tuple(learned_widths(mask.numpy())) == indices


def test_a_gate_behind_a_closed_one_counts_nothing() -> None:
    mask = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 0.7]])
    assert COST.standing(mask).item() == pytest.approx(fraction((0, 1, 0)))
    assert tuple(learned_widths(mask.numpy())) == (0, 1, 0)


@given(st.lists(st.floats(0.01, 1), min_size=6, max_size=6), st.floats(0.1, 10))
def test_the_surrogate_is_blind_to_scale_and_whole_for_equal_gates(gates: list[float], scale: float) -> None:
    mask = torch.tensor(gates, dtype=torch.float64).reshape(3, 2)
    assert COST.relaxed(mask * scale, NORMS["l1l2"]).item() == pytest.approx(COST.relaxed(mask, NORMS["l1l2"]).item())
    assert COST.relaxed(torch.full((3, 2), scale), NORMS["l1l2"]).item() == pytest.approx(COST.ceiling)


def test_gradients_of_the_surrogate() -> None:
    mask = torch.rand(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
    assert torch.autograd.gradcheck(lambda one: COST.relaxed(one, NORMS["l1l2"]), (mask.requires_grad_(),))


def test_bytes_are_those_of_the_file(start: Quantized) -> None:
    cost = width_cost(start.network, start.plan.layers, "size", 8)  # type: ignore[union-attr]
    stored = {tensor.name: len(tensor.raw_data) for tensor in start.model.graph.initializer}
    for row, name in enumerate(cost.names):
        assert cost.table[row, 2] == sum(stored[f"{name}_{part}"] for part in ("quantized", "scale", "zero_point"))
        assert cost.table[row, 0] < cost.table[row, 1] < cost.table[row, 2]
    assert cost.whole == sum(start.network.constants[name].nbytes for name in cost.names)


def test_bit_operations_are_counted_by_hand(start: Quantized) -> None:
    cost = width_cost(start.network, start.plan.layers, "bit-ops", 4)  # type: ignore[union-attr]
    macs = {"w0": 8 * 64 * 27, "w1": 8 * 64 * 72, "w2": 8 * 64 * 36, "w3": 6 * 64 * 72, "w4": 5 * 16}
    assert cost.names == tuple(macs)
    assert np.array_equal(cost.table, [[count * 4 * bits for bits in WIDTHS] for count in macs.values()])
    assert cost.whole == 1024 * sum(macs.values())
    assert cost.floor == pytest.approx(2 * 4 / 1024)


@given(st.integers(0, 10**6), st.floats(0.0, 1.0), st.integers(1, 7))
def test_the_nearest_widths_are_those_of_an_exhaustive_search(seed: int, place: float, count: int) -> None:
    rng = np.random.default_rng(seed)
    table = np.cumsum(rng.integers(1, 50, (count, 3)).astype(np.float64), axis=1)
    cost = WidthCost(tuple(map(str, range(count))), table, 4 * float(table[:, -1].sum()))
    learned = rng.integers(0, 3, count)
    goal = cost.floor + place * (cost.ceiling - cost.floor)
    found = nearest_widths(cost, learned, goal)
    limit = goal * cost.whole * (1 + 1e-9)
    every = [(sum(table[row, index] for row, index in enumerate(some)), some) for some in itertools.product(range(3), repeat=count)]
    allowed = [one for one in every if one[0] <= limit]
    close = [one for one in allowed if one[0] >= (1 - TOLERANCE) * limit]
    spent = cost.of(found) * cost.whole
    assert spent <= limit
    if close:
        assert spent >= (1 - TOLERANCE) * limit - limit / 1024
        moved = min(sum(abs(table[row, index] - table[row, learned[row]]) for row, index in enumerate(some)) for _, some in close)
        mine = sum(abs(table[row, WIDTHS.index(found[str(row)])] - table[row, learned[row]]) for row in range(count))
        assert mine <= moved + limit / 1024 * count
    else:
        assert spent >= max(total for total, _ in allowed) - limit / 1024


def test_what_was_learned_stays_where_it_hits() -> None:
    for indices in itertools.product(range(3), repeat=3):
        found = nearest_widths(COST, np.array(indices), fraction(indices))
        assert found == {name: WIDTHS[index] for name, index in zip(COST.names, indices, strict=True)}
