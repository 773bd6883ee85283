"""Masks: ones change nothing, zeros are the cut, and whatever is chosen leaves every layer something."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call

from compresskit.errors import TargetError
from compresskit.models.graph import ModelGraph
from compresskit.pruning.at_init import ChannelMasks, Task, WeightMasks, choose_weights, narrowest, share_of_weights
from compresskit.pruning.at_init.network import weights_of
from compresskit.pruning.cut import cut
from compresskit.pruning.footprint import footprint
from compresskit.pruning.groups import find_groups
from compresskit.pruning.sparsity import sparse_weights

MakeTask = Callable[..., Task]
Lift = Callable[..., ModelGraph]


class Branches(nn.Module):
    """Two branches concatenated and shuffled, a convolution in groups, one for each channel, and a transposed one."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(2, 4, 1), nn.Conv2d(2, 4, 3, padding=1)
        self.grouped, self.each, self.up = nn.Conv2d(8, 8, 1, groups=2), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ConvTranspose2d(8, 4, 2)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([self.left(x), self.right(x)], dim=1).relu().unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2)
        return self.head(self.up(self.each(self.grouped(y)).relu()).relu().mean((2, 3)))


class Shared(nn.Module):
    """One layer that is called twice under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.one, self.two, self.last = nn.Linear(50, 6), nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.two(self.one(self.first(x.flatten(1)).relu()).relu()).relu())


class Product(nn.Module):
    """Queries and keys, whose channels no layer reads: they meet in a product."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.last = nn.Linear(25, 4), nn.Linear(25, 4), nn.Linear(25, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2)
        return self.last((self.query(x) @ self.key(x).transpose(1, 2)).softmax(-1) @ self.value(x)).mean(1)


def channel_masks(graph: ModelGraph) -> ChannelMasks:
    prunable = find_groups(graph)
    return ChannelMasks(prunable, footprint(prunable.graph, prunable.coupling, "params"))


def outputs(graph: ModelGraph, weights: dict[str, Tensor]) -> Tensor:
    return functional_call(graph.module, weights, graph.example())


@pytest.mark.parametrize("net", [Branches, Shared, Product])
@pytest.mark.parametrize("granularity", ["weights", "channels"])
def test_masks_of_ones_change_nothing(net: type[nn.Module], granularity: str, lifted: Lift, task: MakeTask) -> None:
    asked = task(lifted(net(), (None, 2, 5, 5)), granularity)
    weights = weights_of(asked.graph.module)
    masked = asked.masks.apply(weights, asked.masks.ones())
    assert masked.keys() == weights.keys()
    assert all(torch.equal(masked[name], weight) for name, weight in weights.items())


@pytest.fixture(scope="module", params=[Branches, Shared, Product])
def cuttable(request: pytest.FixtureRequest, lifted: Lift) -> ChannelMasks:
    return channel_masks(lifted(request.param(), (None, 2, 5, 5)))


@settings(max_examples=10)
@given(seed=st.integers(0, 1000))
def test_zeros_in_channel_masks_are_the_cut(seed: int, cuttable: ChannelMasks) -> None:
    masks = cuttable
    graph, rng = masks.prunable.graph, np.random.default_rng(seed)
    keep = np.ones(masks.prunable.coupling.classes, dtype=bool)
    zeros = masks.ones()
    for group, classes in zip(masks.prunable.groups, masks.prunable.classes, strict=True):
        gone = rng.permutation(group.size)[: rng.integers(0, group.size // 2)]
        keep[classes[gone]] = False
        zeros[group.name][torch.from_numpy(gone)] = 0
    masked = outputs(graph, masks.apply(weights_of(graph.module), zeros))
    torch.testing.assert_close(masked, cut(graph, masks.prunable.coupling, keep).module(*graph.example()))


def test_a_weight_under_two_names_is_masked_once(lifted: Lift) -> None:
    masks = channel_masks(lifted(Shared(), (None, 2, 5, 5)))
    graph = masks.prunable.graph
    weights = weights_of(graph.module)
    halves = {name: ones / 2 for name, ones in masks.ones().items()}
    shared = next(name for name in weights if name in ("one.weight", "two.weight"))
    torch.testing.assert_close(masks.apply(weights, halves)[shared], weights[shared] / 2)


def test_every_channel_has_an_entry(smooth_net: ModelGraph) -> None:
    assert {name: tuple(mask.shape) for name, mask in channel_masks(smooth_net).ones().items()} == {"stem": (4,), "inner": (3,)}


def test_branches_that_are_added_share_a_mask(smooth_net: ModelGraph) -> None:
    masks = channel_masks(smooth_net)
    weights = weights_of(masks.prunable.graph.module)
    masked = masks.apply(weights, {**masks.ones(), "stem": torch.tensor([1.0, 1, 0, 1], dtype=torch.float64)})
    changed = [name for name, weight in weights.items() if not torch.equal(weight, masked[name])]
    assert changed == ["inner.weight", "head.weight"]
    assert not masked["inner.weight"][:, 2].any()
    assert not masked["head.weight"].unflatten(1, (4, 9))[:, 2].any()


@pytest.mark.parametrize("granularity", ["weights", "channels"])
@pytest.mark.parametrize("kept", [0.3, 0.6])
def test_a_selection_keeps_the_best_of_what_was_asked_for(granularity: str, kept: float, smooth_net: ModelGraph, task: MakeTask) -> None:
    masks = task(smooth_net, granularity).masks

    def measure(chosen: Mapping[str, Tensor]) -> float:
        if isinstance(masks, WeightMasks):
            return float(torch.cat([mask.flatten() for mask in chosen.values()]).mean())
        assert isinstance(masks, ChannelMasks)
        keep = np.ones(masks.prunable.coupling.classes, dtype=bool)
        for classes, mask in zip(masks.prunable.classes, chosen.values(), strict=True):
            keep[classes] = mask.numpy() > 0
        return masks.cost(keep) / masks.cost.whole

    rng = torch.Generator().manual_seed(0)
    scores = {name: torch.rand(ones.shape, generator=rng, dtype=torch.float64) for name, ones in masks.ones().items()}
    chosen = masks.select(scores, kept)
    for name, mask in chosen.items():
        best = scores[name].flatten().argsort(descending=True)[: int(mask.sum())]
        assert len(best) >= 1
        assert torch.equal(mask.flatten(), torch.zeros(mask.numel(), dtype=torch.float64).index_fill(0, best, 1.0))
    assert measure(chosen) == pytest.approx(kept, abs=0.1)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.floats(0, 1), st.integers(0, 100), st.booleans())
def test_chosen_weights_are_the_best_and_leave_every_layer_one(sizes: list[int], kept: float, seed: int, skewed: bool) -> None:
    rng = torch.Generator().manual_seed(seed)
    scores = {f"{i}.weight": torch.rand(size, generator=rng) + (i if skewed else 0) for i, size in enumerate(sizes)}
    count = round(kept * sum(sizes))
    if count < len(sizes):
        with pytest.raises(TargetError, match="too few for"):
            choose_weights(scores, kept)
        return
    choice = choose_weights(scores, kept)
    assert sum(int(mask.sum()) for mask in choice.masks.values()) == count
    for name, mask in choice.masks.items():
        best = scores[name].argsort(descending=True)[: int(mask.sum())]
        assert mask[best].all()
        assert mask.any()
    threshold = torch.cat(list(scores.values())).sort(descending=True).values[count - 1]
    assert set(choice.rescued) == {name.removesuffix(".weight") for name, score in scores.items() if score.max() < threshold}


def test_groups_at_their_last_channel_are_named(smooth_net: ModelGraph) -> None:
    prunable = find_groups(smooth_net)
    keep = np.ones(prunable.coupling.classes, dtype=bool)
    assert narrowest(prunable, keep) == ()
    keep[prunable.classes[1][1:]] = False
    assert narrowest(prunable, keep) == ("inner",)


def test_biases_and_norms_count_among_the_parameters_that_stay(plain_net: ModelGraph) -> None:
    weights = sum(weight.numel() for weight in sparse_weights(plain_net.module).values())
    whole = sum(parameter.numel() for parameter in plain_net.module.parameters())
    assert share_of_weights(plain_net.module, whole) == 1
    assert share_of_weights(plain_net.module, whole - weights // 4) == 1 - weights // 4 / weights
    with pytest.raises(TargetError, match=f"{whole - weights} are biases and norms"):
        share_of_weights(plain_net.module, whole - weights)


def test_masking_leaves_the_network_alone(smooth_net: ModelGraph) -> None:
    before = copy.deepcopy(smooth_net.module.state_dict())
    masks = WeightMasks(smooth_net.module)
    masks.apply(weights_of(smooth_net.module), {name: torch.zeros_like(weight) for name, weight in sparse_weights(smooth_net.module).items()})
    assert all(torch.equal(before[name], value) for name, value in smooth_net.module.state_dict().items())
