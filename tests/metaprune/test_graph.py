"""A network's graph: every parameter has its place, and comes back from it unchanged."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from compresskit.metaprune.features import features, parameters
from compresskit.metaprune.graph import layout_of
from compresskit.metaprune.layout import DEFAULTS, FEATURES, Layout
from compresskit.models import zoo
from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.lift import graph_from_module


def _graph(net: nn.Module, shape: tuple[int, ...]) -> ModelGraph:
    return graph_from_module(net, [TensorSpec("x", (None, *shape))], source="test")


def _drawn(graph: ModelGraph) -> dict[str, Tensor]:
    """Parameters and buffers of `graph`, all numbers different."""
    rng = torch.Generator().manual_seed(1)
    tensors = {**dict(graph.module.named_parameters()), **dict(graph.module.named_buffers())}
    return {name: torch.randn(tensor.shape, generator=rng) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def _check(graph: ModelGraph) -> Layout:
    """Every trainable parameter is written back as it was read, or listed."""
    layout, tensors = layout_of(graph), _drawn(graph)
    nodes, blocks = features(layout, tensors)
    back = parameters(layout, nodes, blocks)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in back.items())
    assert back.keys() | {skipped.group for skipped in layout.skipped} == dict(graph.module.named_parameters()).keys()
    assert [values.shape for values in blocks] == [block.shape for block in layout.blocks]
    return layout


@pytest.mark.parametrize("name", zoo.ARCHITECTURES)
def test_the_zoo_survives_the_round_trip(name: str) -> None:
    architecture = zoo.ARCHITECTURES[name]
    spec = TensorSpec("x", (None, *architecture.input_shape), architecture.dtype)
    layout = _check(graph_from_module(zoo.build(name, width=0.125), [spec], source=name))
    assert {skipped.group for skipped in layout.skipped} <= {"cls_token", "pos_embed", "positions"}


def test_a_residual_network_has_the_papers_graph() -> None:
    net = zoo.build("resnet8", shortcut="B")
    layout = _check(_graph(net, (3, 32, 32)))
    assert layout.nodes == 3 + 16 * 3 + 32 * 2 + 64 * 2 + 10
    fixed = [block for block in layout.blocks if not block.weights]
    assert [len(block.sources) for block in fixed] == [16]  # the other two shortcuts project
    projections = {values.tensor for values in layout.values if FEATURES[int(values.columns[0])].startswith("shortcut.norm")}
    assert {name.split(".downsample.1.")[0] for name in projections} == {"layer2.0", "layer3.0"}


def test_nodes_without_a_norm_have_the_papers_defaults() -> None:
    graph = _graph(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)), (3, 8, 8))
    nodes, _ = features(layout_of(graph), _drawn(graph))
    columns = [index for index, name in enumerate(FEATURES) if name != "bias"]
    assert torch.equal(nodes[:, columns], torch.tensor(DEFAULTS)[columns].expand(9, -1))
