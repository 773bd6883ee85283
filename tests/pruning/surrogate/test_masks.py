"""Masks on weights: they change nothing when put on, equal the folded network always, and are trained like parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx, nn

from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.load import load_model
from compresskit.pruning.blocks import open_blocks
from compresskit.pruning.cut import zeroed
from compresskit.pruning.factors import factorize
from compresskit.pruning.groups import find_groups
from compresskit.pruning.lowrank import factors_of
from compresskit.pruning.surrogate.masks import Masked, parameter_groups

pytestmark = pytest.mark.usefixtures("one_thread")


def _masked(graph: ModelGraph, seed: int) -> Masked:
    prunable = find_groups(graph)
    channels = sum(group.size for group in prunable.groups)
    start = torch.rand(channels, generator=torch.Generator().manual_seed(seed)) + 0.2
    return Masked(prunable, start, torch.zeros(1, 3)).eval()


def _close(got: torch.Tensor, wanted: torch.Tensor) -> bool:
    return bool((got - wanted).abs().max() <= 1e-5 * wanted.abs().max().clamp(min=1))


def folded(masked: Masked) -> fx.GraphModule:
    """The network with the masks multiplied into its weights."""
    module = copy.deepcopy(masked.network)
    with torch.no_grad():
        for name, weight in masked.weights(masked.mask).items():
            module.get_parameter(name).copy_(weight)
    return module


@pytest.mark.parametrize("name", ["resnet8", "vit"])
def test_masks_change_nothing_when_put_on_and_fold_away(name: str) -> None:
    graph = load_model(name)
    masked, inputs = _masked(graph, 0), graph.example(2)
    with torch.no_grad():
        assert _close(masked(*inputs), graph.module.eval()(*inputs))
        masked.mask.mul_(torch.rand_like(masked.mask))
        assert torch.equal(masked(*inputs), folded(masked)(*inputs))


@settings(max_examples=5)
@given(seed=st.integers(0, 2**31))
def test_a_channel_of_mask_zero_is_gone(digits_net: ModelGraph, seed: int) -> None:
    prunable, masked = find_groups(digits_net), _masked(digits_net, seed)
    dead = torch.rand(len(masked.mask), generator=torch.Generator().manual_seed(seed)) < 0.4
    with torch.no_grad():
        masked.mask[dead] = 0
        inputs = digits_net.example(2)
        keep = np.ones(prunable.coupling.classes, dtype=bool)
        keep[np.concatenate(prunable.classes)] = ~dead.numpy()
        whole = prunable.graph.with_module(folded(masked))
        assert _close(masked(*inputs), zeroed(whole, prunable.coupling, keep).module.eval()(*inputs))


def test_the_network_given_is_left_as_it_was(digits_net: ModelGraph) -> None:
    before = {name: tensor.clone() for name, tensor in digits_net.module.state_dict().items()}
    _masked(digits_net, 0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in digits_net.module.state_dict().items())


def test_the_gradient_of_a_mask_is_that_of_the_weights_it_multiplies(small_net: ModelGraph) -> None:
    masked = _masked(small_net, 0)
    (x,) = small_net.example(3)
    masked(x).square().sum().backward()
    assert masked.mask.grad is not None
    readers = [masked.network.get_submodule("3").weight, masked.network.get_submodule("8").weight]  # of 16 channels, and of 24
    wanted = torch.cat([(weight * weight.grad).movedim(1, 0).flatten(1).sum(1) for weight in readers]) / masked.mask.detach()
    assert _close(masked.mask.grad, wanted.detach())


class _Product(nn.Module):
    """The channels of two layers meet in a product of matrices: no weight reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.last = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.left(x) @ self.right(x).transpose(1, 2))


def test_where_no_weight_reads_a_channel_its_makers_are_masked() -> None:
    graph = graph_from_module(_Product(), [TensorSpec("x", (None, 5, 6))], source="product")
    masked = _masked(graph, 0)
    (x,) = graph.example(2)
    with torch.no_grad():
        assert _close(masked(x), graph.module(x))
        masked.mask.zero_()
        assert torch.equal(masked(x), masked.network.get_submodule("last").bias.expand(2, 5, 3))


def test_channels_that_a_concatenation_gathers_carry_their_own_masks(around: Callable[..., ModelGraph]) -> None:
    graph = around(lambda x: torch.cat([x.relu(), x.tanh()], 1))
    masked = _masked(graph, 0)
    assert len(masked.mask) == 12
    with torch.no_grad():
        masked.mask[5] = 0
    weight = folded(masked).get_submodule("last").weight
    assert [column for column in range(24) if not weight[:, column].any()] == [5, 17]


@pytest.mark.parametrize("name", ["resnet8", "vit"])
def test_factors_change_nothing_either_and_fold_away(name: str) -> None:
    graph = load_model(name)
    prunable = open_blocks(graph, ("channels", "lowrank"))
    start = torch.rand(sum(group.size for group in prunable.groups), generator=torch.Generator().manual_seed(0)) + 0.2
    masked = Masked(prunable, start, torch.zeros(1, 3), factors_of(graph, prunable.ranks, {})).eval()
    inputs = graph.example(2)
    with torch.no_grad():
        assert (masked(*inputs) - graph.module.eval()(*inputs)).abs().max() <= 1e-4 * graph.module(*inputs).abs().max()
        masked.mask.mul_(torch.rand_like(masked.mask))
        assert torch.equal(masked(*inputs), folded(masked)(*inputs))


@settings(max_examples=5)
@given(seed=st.integers(0, 2**31))
def test_a_direction_of_mask_zero_is_gone(digits_net: ModelGraph, seed: int) -> None:
    """Where masks are zero or what they began with, what is left is the truncated decomposition."""
    prunable = open_blocks(digits_net, ("lowrank",))
    start = torch.full((sum(group.size for group in prunable.groups),), 0.5)
    masked = Masked(prunable, start, torch.zeros(1, 3), factors_of(digits_net, prunable.ranks, {})).eval()
    rng = np.random.default_rng(seed)
    ranks = {layer: int(rng.integers(1, len(labels) + 1)) for layer, labels in prunable.ranks.items()}
    kept = [torch.arange(len(labels)) < ranks[layer] for layer, labels in prunable.ranks.items()]
    inputs = digits_net.example(2)
    with torch.no_grad():
        masked.mask.mul_(torch.cat(kept))
        assert torch.allclose(masked(*inputs), factorize(digits_net, ranks, {}).module.eval()(*inputs), atol=1e-4)


def test_factors_are_trained_in_place_of_the_weights_that_they_make_up(small_net: ModelGraph) -> None:
    prunable = open_blocks(small_net, ("channels", "lowrank"))
    start = torch.ones(sum(group.size for group in prunable.groups))
    masked = Masked(prunable, start, torch.zeros(1, 3), factors_of(small_net, prunable.ranks, {}))
    trained = {id(parameter) for group in parameter_groups(masked, 0.1) for parameter in group["params"]}
    dense = [masked.network.get_parameter(f"{layer}.weight") for layer in prunable.ranks]
    assert dense
    assert not trained & {id(parameter) for parameter in dense}
    assert trained == {id(parameter) for parameter in masked.parameters()} - {id(parameter) for parameter in dense}
    (x,) = small_net.example(3)
    masked(x).square().sum().backward()
    assert all(parameter.grad is not None for group in parameter_groups(masked, 0.1) for parameter in group["params"])
