"""What masks cost: the real cost where they are ones, blind to scale under l1l2, with the right gradient, and the cut's cost where they are zero."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.load import load_model
from compresskit.pruning.blocks import open_blocks
from compresskit.pruning.config import Quantity
from compresskit.pruning.footprint import Footprint, footprint
from compresskit.pruning.groups import Prunable, find_groups
from compresskit.pruning.surrogate.cost import Surrogate
from compresskit.pruning.surrogate.norms import NORMS

NETS = ("resnet8", "vit")
QUANTITIES: tuple[Quantity, ...] = ("flops", "params", "size")


def _priced(graph: ModelGraph, quantity: Quantity = "flops") -> tuple[Prunable, Footprint, Surrogate]:
    prunable = find_groups(graph)
    cost = footprint(prunable.graph, prunable.coupling, quantity)
    return prunable, cost, Surrogate(prunable, cost)


@pytest.fixture(scope="module", params=NETS)
def net(request: pytest.FixtureRequest) -> ModelGraph:
    return load_model(request.param)


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("norm", NORMS)
def test_masks_of_ones_cost_what_the_model_does(net: ModelGraph, norm: str, quantity: Quantity) -> None:
    _, cost, surrogate = _priced(net, quantity)
    ones = torch.ones(len(surrogate.owner))
    assert float(surrogate(ones, NORMS[norm])) == pytest.approx(cost.whole, rel=1e-5)
    assert float(surrogate.standing(ones)) == pytest.approx(cost.whole, rel=1e-5)


@pytest.fixture(scope="module")
def priced(digits_net: ModelGraph) -> tuple[Prunable, Footprint, Surrogate]:
    return _priced(digits_net)


@given(seed=st.integers(0, 2**31), kept=st.floats(0.2, 1))
def test_what_stands_is_what_a_cut_leaves(priced: tuple[Prunable, Footprint, Surrogate], seed: int, kept: float) -> None:
    prunable, cost, surrogate = priced
    alive = np.random.default_rng(seed).random(len(surrogate.owner)) < kept
    alive[np.cumsum([0, *(group.size for group in prunable.groups[:-1])])] = True  # no group is empty
    keep = np.ones(prunable.coupling.classes, dtype=bool)
    keep[np.concatenate(prunable.classes)] = alive
    mask = torch.rand(len(alive), generator=torch.Generator().manual_seed(seed)) * 0.9 + 0.1
    assert float(surrogate.standing(mask * torch.from_numpy(alive))) == pytest.approx(cost(keep), rel=1e-5)


@given(seed=st.integers(0, 2**31), group=st.integers(0, 100), scale=st.floats(1e-3, 1e3))
def test_l1l2_does_not_see_how_large_a_mask_is_and_l1_does(
    priced: tuple[Prunable, Footprint, Surrogate], seed: int, group: int, scale: float
) -> None:
    prunable, _, surrogate = priced
    mask = torch.rand(len(surrogate.owner), generator=torch.Generator().manual_seed(seed)) + 0.01
    scaled = torch.where(surrogate.owner == group % len(prunable.groups), scale * mask, mask)
    before, after = (float(surrogate(each, NORMS["l1l2"])) for each in (mask, scaled))
    assert after == pytest.approx(before, rel=1e-4)
    if scale < 0.5:
        assert float(surrogate(scaled, NORMS["l1"])) < float(surrogate(mask, NORMS["l1"]))


@pytest.mark.parametrize("norm", NORMS)
def test_the_gradient_is_that_of_finite_differences(digits_net: ModelGraph, norm: str) -> None:
    _, cost, surrogate = _priced(digits_net)
    mask = torch.rand(len(surrogate.owner), generator=torch.Generator().manual_seed(0)) + 0.5
    leaf = mask.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(surrogate(leaf, NORMS[norm]), leaf)
    step = torch.randn(len(mask), generator=torch.Generator().manual_seed(1))
    ahead, behind = (float(surrogate(mask + sign * 1e-2 * step, NORMS[norm])) for sign in (1, -1))
    assert (ahead - behind) / 2e-2 == pytest.approx(float(gradient @ step), rel=2e-2, abs=1e-4 * cost.whole)


def test_equal_masks_on_k_of_d_channels_count_the_root_of_dk_under_l1l2(small_net: ModelGraph) -> None:
    _, _, surrogate = _priced(small_net)
    first = surrogate.owner == 0
    mask = first & (torch.arange(len(first)) < 4)
    sums, squares = surrogate.per_group(mask.float()), surrogate.per_group(mask.float())
    assert NORMS["l1l2"](sums, squares, surrogate.sizes).tolist() == [8.0, 0.0]  # 4 of 16; none of 24


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_ranks_count_once_they_pay_and_are_drawn_before(quantity: Quantity) -> None:
    """The value is that of the cheaper form, the slope always that of the factors: (N(a_i) + N(a_i+1)) N(b_i) of table 1."""
    graph = graph_from_module(
        torch.nn.Sequential(torch.nn.Linear(6, 10), torch.nn.ReLU(), torch.nn.Linear(10, 8)), [TensorSpec("x", (None, 6))], source="two"
    )
    prunable = open_blocks(graph, ("channels", "lowrank"))
    surrogate = Surrogate(prunable, footprint(prunable.graph, prunable.coupling, quantity, prunable.ranks))
    width, first, second = (slice(*span) for span in ((0, 10), (10, 16), (16, 24)))
    ones = torch.ones(24)
    each = {"flops": 1, "params": 1, "size": 4}[quantity]
    whole = 60 + 80 + (0 if quantity == "flops" else 18)
    assert float(surrogate(ones, NORMS["l1l2"])) == pytest.approx(each * whole)
    lower = ones.clone()
    lower[first.start + 3 : first.stop] = 0
    assert float(surrogate.standing(lower)) == pytest.approx(each * (whole - 60 + (6 + 10) * 3))
    leaf = torch.rand(24, generator=torch.Generator().manual_seed(0)).requires_grad_()
    norms = {span.start: float(leaf.detach()[span].sum()) for span in (width, first, second)}
    (gradient,) = torch.autograd.grad(surrogate(leaf, NORMS["l1"]), leaf)
    assert torch.allclose(gradient[first], torch.full((6,), each * (6 + norms[0])))
    assert torch.allclose(gradient[second], torch.full((8,), each * (norms[0] + 8)))
    biases = 0 if quantity == "flops" else 1
    assert torch.allclose(gradient[width], torch.full((10,), each * (norms[10] + norms[16] + biases)))
