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
from compresskit.pruning.cut import zeroed
from compresskit.pruning.groups import find_groups
from compresskit.pruning.surrogate.masks import Masked

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
