"""Constants that spell out widths follow the cut, whatever they are written as."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx

from compresskit.models.graph import ModelGraph
from compresskit.pruning.cut import TOLERANCE, cut, disagreement
from compresskit.pruning.groups import find_groups
from compresskit.pruning.rules.base import operator_name

CutTo = Callable[..., ModelGraph]


@pytest.fixture
def cut_to(around: Callable[..., ModelGraph]) -> CutTo:
    """The graph around a function with only these outputs of its first layer (and what is tied to them), checked."""

    def cut_around(function: Callable[[Tensor], Tensor], kept: list[int], batch: int | None = None) -> ModelGraph:
        prunable = find_groups(around(function, batch))
        labels: Any = prunable.coupling.tensors["first.weight"][0]
        keep = np.ones(prunable.coupling.classes, dtype=bool)
        keep[np.delete(labels, kept)] = False
        keep[labels[kept]] = True
        smaller = cut(prunable.graph, prunable.coupling, keep)
        assert disagreement(prunable.graph, prunable.coupling, keep, smaller) <= TOLERANCE
        assert not keep.all()
        return smaller

    return cut_around


def call(graph: ModelGraph, name: str) -> fx.Node:
    return next(node for node in graph.module.graph.nodes if operator_name(node) == name)


def test_sizes_of_views_become_what_is_left(cut_to: CutTo) -> None:
    smaller = cut_to(lambda x: x.view(-1, 12, 1).expand(-1, 12, 2).reshape(-1, 24), [0, 5, 7])
    assert call(smaller, "view").args[1] == [-1, 3, 1]
    assert call(smaller, "expand").args[1] == [-1, 3, 2]
    assert call(smaller, "reshape").args[1] == [-1, 6]


def test_a_size_that_is_left_open_stays_open(cut_to: CutTo) -> None:
    assert call(cut_to(lambda x: x.unflatten(1, (-1, 1)).relu().flatten(1), [0, 1]), "unflatten").args[2] == [-1, 1]
    assert call(cut_to(lambda x: x.unflatten(1, (12, 1)).relu().flatten(1), [0, 1]), "unflatten").args[2] == [2, 1]


def test_sizes_computed_from_the_batch_are_computed_anew(cut_to: CutTo) -> None:
    def merged(x: Tensor) -> Tensor:
        return x.reshape(x.shape[0] * 12, 1).relu().reshape(-1, 12)

    smaller = cut_to(merged, [1, 4, 6, 10, 11])
    for batch in (1, 2, 5):
        assert smaller.module(torch.randn(batch, 4)).shape == (batch, 3)


@pytest.mark.parametrize("scale", [None, 0.7])
def test_attention_keeps_the_scale_of_the_whole_width(cut_to: CutTo, scale: float | None) -> None:
    def attended(x: Tensor) -> Tensor:
        tokens = torch.stack([x, x.relu(), -x], dim=1)
        return F.scaled_dot_product_attention(tokens, tokens, tokens, scale=scale).sum(1)

    smaller = cut_to(attended, [0, 5, 7])
    assert call(smaller, "scaled_dot_product_attention").kwargs["scale"] == (scale or 12**-0.5)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_baked_batch_is_not_mistaken_for_a_width(batch: int, cut_to: CutTo) -> None:
    def baked(x: Tensor) -> Tensor:
        return x.reshape(batch, 12, 1, 1).relu().reshape(batch, 12)

    smaller = cut_to(baked, [0, 3, 9], batch=batch)
    assert smaller.module(torch.randn(batch, 4)).shape == (batch, 3)


SPLITS: dict[str, Callable[[Tensor], Sequence[Tensor]]] = {
    "chunks": lambda x: x.chunk(3, 1),
    "equal parts": lambda x: x.split(4, 1),
    "given parts": lambda x: x.split([2, 4, 6], -1),
    "cuts": lambda x: x.tensor_split((2, 8), 1),
}


@pytest.mark.parametrize("name", SPLITS)
def test_splits_get_the_sizes_that_are_left(name: str, cut_to: CutTo) -> None:
    smaller = cut_to(lambda x: torch.cat([part * (1 + index) for index, part in enumerate(SPLITS[name](x))], 1), [0, 1, 5, 9, 10])
    assert call(smaller, "split_with_sizes").args[1] == [2, 1, 2]


def bounds(graph: ModelGraph) -> list[tuple[Any, ...]]:
    """Start and stop of every slice of channels."""
    return [node.args[2:] for node in graph.module.graph.nodes if operator_name(node) == "slice" and node.args[1] == 1]


def test_bounds_of_slices_move(cut_to: CutTo) -> None:
    smaller = cut_to(lambda x: torch.cat([x[:, 2:9], x[:, -3:], x.narrow(1, 4, 4)], 1), [1, 2, 5, 9, 11])
    assert bounds(smaller) == [(1, 3), (3, 5), (2, 3)]


def test_padding_shrinks_with_what_it_is_added_to(cut_to: CutTo) -> None:
    """Channels i and i + 2 are one: two of the padded ones in front are channels 0 and 1, four of those behind 8 to 11."""
    smaller = cut_to(lambda x: F.pad(x[:, :6], (2, 4)) + x, [0, 2, 4, 6, 9])
    assert call(smaller, "pad").args[1] == [1, 1]
    assert bounds(smaller) == [(0, 3)]


def test_new_tensors_are_as_wide_as_what_they_meet(cut_to: CutTo) -> None:
    smaller = cut_to(lambda x: x + x.new_ones(x.shape[0], 12) + torch.zeros(x.shape[0], 12), [3, 4])
    sizes: list[Any] = [call(smaller, "new_ones").args[1], call(smaller, "zeros").args[0]]
    assert [size[1] for size in sizes] == [2, 2]


def test_selections_are_numbered_anew(cut_to: CutTo) -> None:
    order = torch.tensor([11, 0, 3, 3, 5])
    smaller = cut_to(lambda x: x.index_select(1, order), [0, 3, 4, 11])
    (index,) = [buffer for buffer in smaller.module.buffers() if buffer.dtype == torch.int64]
    assert index.tolist() == [3, 0, 1, 1]
