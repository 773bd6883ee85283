"""Shuffles become permutations: the same results to the bit, and more that can be cut."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.zoo import build
from compresskit.pruning.groups import find_groups
from compresskit.pruning.permutations import straighten
from compresskit.pruning.rules.base import operator_name
from compresskit.pruning.trace import measure


class Call(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.first = nn.Conv2d(3, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.first(x))


def lifted(function: Callable[[Tensor], Tensor], batch: int | None = None) -> ModelGraph:
    return graph_from_module(Call(function), [TensorSpec("x", (batch, 3, 4, 4))], source="test", free_batch=batch is None)


def straightened(graph: ModelGraph) -> tuple[ModelGraph, list[str]]:
    """What `straighten` makes, and its operators."""
    straight, sizes = straighten(graph, measure(graph))
    assert all(node.name in sizes.values for node in straight.module.graph.nodes)
    return straight, [operator_name(node) for node in straight.module.graph.nodes if node.op == "call_function"]


@settings(max_examples=5)
@given(groups=st.sampled_from([2, 3, 4, 6]), style=st.sampled_from(["view", "unflatten", "named"]), batch=st.sampled_from([None, 1, 2]))
def test_a_shuffle_becomes_one_selection(groups: int, style: str, batch: int | None) -> None:
    def shuffle(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        if style == "view":
            return x.view(n, groups, c // groups, h, w).permute(0, 2, 1, 3, 4).contiguous().view(n, c, h, w)
        if style == "unflatten":
            return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
        return torch.channel_shuffle(x, groups)

    graph = lifted(lambda x: shuffle(x).relu(), batch)
    straight, operators = straightened(graph)
    assert operators == ["index_select", "relu"]
    for size in (1, 2, 5) if batch is None else (batch,):
        example = graph.example(size)
        assert torch.equal(graph.module(*example), straight.module(*example))
    assert straight.module.get_parameter("first.weight") is graph.module.get_parameter("first.weight")


def test_halves_picked_out_of_a_shuffle_are_selections_too() -> None:
    def halves(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        pairs = x.reshape(n * c // 2, 2, h * w).permute(1, 0, 2).reshape(2, -1, c // 2, h, w)
        return pairs[0] - pairs[1]

    graph = lifted(halves)
    straight, operators = straightened(graph)
    assert operators == ["index_select", "index_select", "sub"]
    assert torch.equal(graph.module(*graph.example(3)), straight.module(*graph.example(3)))


UNTOUCHED: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda x: x.permute(0, 2, 3, 1),
    "there and back": lambda x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2).relu(),
    "space mixed with channels": lambda x: x.flatten(1).view(-1, 16, 12).transpose(1, 2).reshape(-1, 12, 4, 4),
    "rows and columns swapped": lambda x: x.transpose(2, 3).relu(),
    "picked in order": lambda x: x[:, 2:5].relu(),
}


@pytest.mark.parametrize("name", UNTOUCHED)
def test_what_is_no_permutation_stays(name: str) -> None:
    graph = lifted(UNTOUCHED[name])
    straight, operators = straightened(graph)
    assert straight is graph
    assert "index_select" not in operators


def test_a_graph_without_shuffles_comes_back_as_it_is() -> None:
    graph = lifted(torch.relu)
    assert straighten(graph, measure(graph))[0] is graph


def test_every_layer_of_shufflenet_can_be_cut() -> None:
    graph = graph_from_module(build("shufflenet_v2_x0_5", width=0.25).eval(), [TensorSpec("x", (None, 3, 32, 32))], source="test")
    prunable = find_groups(graph)
    example = graph.example(2)
    assert torch.equal(graph.module(*example), prunable.graph.module(*example))
    assert [skipped.group for skipped in prunable.skipped] == ["fc"]
    made = sum(len(parameter) for name, parameter in graph.module.named_parameters() if parameter.ndim == 4 and parameter.shape[1] > 1)
    assert sum(group.size for group in prunable.groups) == made
