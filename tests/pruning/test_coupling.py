"""What is tied to what: against hand-made cases, and against torch-pruning on the plain convolutional nets that it handles."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.zoo import build
from compresskit.pruning.coupling import Coupling, couple
from compresskit.pruning.groups import Prunable, find_groups
from compresskit.pruning.rules.reshape import common_factors
from compresskit.pruning.trace import Atoms, measure

Pairs = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=40)


@given(Pairs)
def test_ties_are_the_connected_components(pairs: list[tuple[int, int]]) -> None:
    atoms = Atoms()
    every = atoms.fresh(20)
    for one, other in pairs:
        atoms.tie(np.array([one]), np.array([other]))
    reach = np.eye(20, dtype=bool)
    for one, other in pairs:
        reach[one, other] = reach[other, one] = True
    for _ in range(5):
        reach = (reach.astype(int) @ reach.astype(int)) > 0
    roots = atoms.roots(every)
    assert np.array_equal(roots[:, None] == roots[None, :], reach)


@given(Pairs)
def test_ties_at_once_are_ties_one_by_one(pairs: list[tuple[int, int]]) -> None:
    at_once, one_by_one = Atoms(), Atoms()
    every = at_once.fresh(20)
    one_by_one.fresh(20)
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    at_once.tie(first, second)
    for one, other in pairs:
        one_by_one.tie(np.array([one]), np.array([other]))
    assert np.array_equal(at_once.roots(every), one_by_one.roots(every))


def test_pins_follow_later_ties() -> None:
    atoms = Atoms()
    a, b = atoms.fresh(3), atoms.fresh(3)
    atoms.pin(b[1:2], "first")
    atoms.pin(b, "second")
    atoms.tie(a, b)
    assert atoms.reasons() == {0: "second", 1: "first", 2: "second"}


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.data())
def test_factors_multiply_up_to_both_shapes(sizes: list[int], data: st.DataObject) -> None:
    def merged() -> list[int]:
        cuts = sorted(data.draw(st.sets(st.integers(1, len(sizes) - 1)))) if len(sizes) > 1 else []
        return [int(np.prod(sizes[start:stop])) for start, stop in zip([0, *cuts], [*cuts, len(sizes)], strict=True)]

    old, new = merged(), merged()
    factors = common_factors(old, new)
    if factors is not None:
        for shape, members in ((old, factors.old), (new, factors.new)):
            assert [int(np.prod([factors.sizes[index] for index in own])) for own in members] == shape
            assert sorted(index for own in members for index in own) == list(range(len(factors.sizes)))
    assert common_factors(old, old) is not None


def test_factors_of_shapes_that_share_none() -> None:
    assert common_factors((4, 6), (6, 4)) is None


Coupled = Callable[[Callable[[Tensor], Tensor]], Coupling]


@pytest.fixture
def coupled(around: Callable[..., ModelGraph]) -> Coupled:
    """What is tied to what in the graph around a function."""

    def couple_around(function: Callable[[Tensor], Tensor]) -> Coupling:
        graph = around(function)
        return couple(graph, measure(graph))

    return couple_around


PASSED: dict[str, tuple[Callable[[Tensor], Tensor], np.ndarray]] = {
    "relu": (F.relu, np.arange(12)),
    "hard-swish": (F.hardswish, np.arange(12)),
    "log of the sigmoid": (F.logsigmoid, np.arange(12)),
    "scaled": (lambda x: 2 * x.neg() / 3 + 1, np.arange(12)),
    "reversed halves": (lambda x: torch.cat(x.chunk(2, 1)[::-1], 1), np.r_[6:12, 0:6]),
    "sliced": (lambda x: x[:, 3:7], np.arange(3, 7)),
    "narrowed": (lambda x: x.narrow(1, 2, 5), np.arange(2, 7)),
    "repeated": (lambda x: x.repeat(1, 2), np.r_[0:12, 0:12]),
    "interleaved": (lambda x: x[:, :, None].expand(-1, -1, 2).flatten(1), np.arange(12).repeat(2)),
    "split": (lambda x: torch.cat([x.split([2, 4, 6], 1)[i] for i in (2, 0)], 1), np.r_[6:12, 0:2]),
    "there and back": (lambda x: x.t().t()[:, None].squeeze(1), np.arange(12)),
}


@pytest.mark.parametrize("name", PASSED)
def test_labels_arrive_where_the_values_do(name: str, coupled: Coupled) -> None:
    function, order = PASSED[name]
    found = coupled(function)
    assert np.array_equal(found.tensors["last.weight"][1], found.tensors["first.weight"][0][order])  # type: ignore[index]
    assert not set(np.unique(found.tensors["first.weight"][0][order])) & set(found.pinned)  # type: ignore[index]


TIED: dict[str, tuple[Callable[[Tensor], Tensor], list[list[int]]]] = {
    "halves added": (lambda x: x[:, :6] + x[:, 6:], [[i, i + 6] for i in range(6)]),
    "gated": (lambda x: F.glu(x, 1), [[i, i + 6] for i in range(6)]),
    "larger": (lambda x: torch.max(x[:, :6], x[:, 6:]), [[i, i + 6] for i in range(6)]),
    "grid": (lambda x: x.view(-1, 4, 3).transpose(1, 2).abs().flatten(1), [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(4)]),
    "pixels": (lambda x: F.pixel_shuffle(x[:, :, None, None], 2).flatten(1), [[4 * i + j for j in range(4)] for i in range(3)]),
}


@pytest.mark.parametrize("name", TIED)
def test_what_must_go_together_is_tied(name: str, coupled: Coupled) -> None:
    function, classes = TIED[name]
    found = coupled(function)
    labels = found.tensors["first.weight"][0]
    assert labels is not None
    assert len(np.unique(labels)) == len(classes)
    assert all(len(np.unique(labels[members])) == 1 for members in classes)


PINNED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "softmax": (lambda x: x.softmax(1), "softmax runs over it"),
    "sum": (lambda x: x.sum(1, keepdim=True).expand(-1, 2), "sum runs over it"),
    "norm": (lambda x: x.norm(dim=1, keepdim=True), "linalg_vector_norm runs over it"),
    "topk": (lambda x: x.topk(5, dim=1)[0], "topk runs over it"),
    "largest": (lambda x: x.max(1, keepdim=True)[0], "max runs over it"),
    "every second": (lambda x: x[:, ::2], "slice picks some by their numbers"),
    "first": (lambda x: x[:, 0, None], "select picks it by its number"),
    "padded": (lambda x: F.pad(x[:, None], (1, 1), mode="reflect")[:, 0], "pad pads it with its own values"),
    "constant": (lambda x: x + torch.arange(12), "add combines it with values that cannot be cut"),
    "unknown": (lambda x: torch.fft.rfft(x).real, "fft_rfft (fft_rfft) has no rule for cutting"),
}


@pytest.mark.parametrize("name", PINNED)
def test_what_cannot_be_cut_is_pinned_with_the_reason(name: str, coupled: Coupled) -> None:
    function, reason = PINNED[name]
    found = coupled(function)
    labels = found.tensors["first.weight"][0]
    assert labels is not None
    assert {found.pinned.get(label) for label in labels.tolist()} == {reason}


def layers(prunable: Prunable) -> set[frozenset[tuple[str, str]]]:
    """Each group as the layers that take part in it, and how."""
    kinds = {"out": "out", "in": "in", "norm": "out"}
    return {
        frozenset((piece.parameter.rpartition(".")[0], kinds[piece.role]) for piece in group.slices if piece.role in kinds)
        for group in prunable.groups
    }


def torch_pruning_layers(module: nn.Module) -> set[frozenset[tuple[str, str]]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch_pruning

        graph: Any = torch_pruning.DependencyGraph().build_dependency(module, torch.randn(1, 3, 32, 32))
        found = set()
        for group in graph.get_all_groups(root_module_types=[nn.Conv2d, nn.Linear]):
            members = set()
            for dependency, _ in group:
                layer = dependency.target.module
                if isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
                    depthwise = isinstance(layer, nn.Conv2d) and layer.groups > 1
                    out = "out" in dependency.handler.__name__ or depthwise or isinstance(layer, nn.BatchNorm2d)
                    members.add((dependency.target.name.split(" ")[0], "out" if out else "in"))
            found.add(frozenset(members))
    return found


@pytest.mark.parametrize("name", ["resnet20", "vgg16", "densenet40", "mobilenet", "mobilenet_v2", "unet"])
def test_groups_are_those_of_torch_pruning(name: str) -> None:
    module = build(name, width=0.25).eval()
    graph = graph_from_module(module, [TensorSpec("x", (None, 3, 32, 32))], source=name)
    prunable = find_groups(graph)
    (output,) = {skipped.group for skipped in prunable.skipped}
    expected = {group for group in torch_pruning_layers(module) if (output, "out") not in group}
    assert layers(prunable) == expected
