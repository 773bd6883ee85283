"""A network's graph: every parameter has its place, and comes back from it unchanged."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor, nn

from compresskit.metaprune.features import features, parameters
from compresskit.metaprune.graph import layout_of
from compresskit.metaprune.layout import DEFAULTS, FEATURES, Layout
from compresskit.metaprune.pna_wiring import wiring
from compresskit.models import zoo
from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.pruning.coupling import couple
from compresskit.pruning.groups import find_groups
from compresskit.pruning.trace import measure

DEEP = {
    "densenet121", "dpn92", "efficientnet_b0", "googlenet", "mobilenet_v2", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110",
    "shufflenet_v2_x1_0", "vgg19",
}  # fmt: skip
"""Take seconds to export and are made of what others are made of; the benchmark `metanetwork_speed.py` looks at them."""


@functools.cache
def _zoo(name: str) -> ModelGraph:
    architecture = zoo.ARCHITECTURES[name]
    spec = TensorSpec("x", (None, *architecture.input_shape), architecture.dtype)
    return graph_from_module(zoo.build(name, width=0.125), [spec], source=name)


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


@pytest.mark.parametrize("name", [name for name in zoo.ARCHITECTURES if name not in DEEP])
def test_the_zoo_survives_the_round_trip(name: str) -> None:
    layout = _check(_zoo(name))
    assert {skipped.group for skipped in layout.skipped} <= {"cls_token", "pos_embed", "positions"}


@pytest.mark.parametrize("name", [name for name in zoo.ARCHITECTURES if name not in DEEP])
def test_only_inputs_are_reached_by_no_edge_and_only_outputs_reach_none(name: str) -> None:
    layout = layout_of(_zoo(name))
    wires = wiring(layout, torch.device("cpu"))
    first = next(block for block in layout.blocks if block.weights)
    ends = {int(node) for block in layout.blocks if not wires.outgoing[block.targets].any() for node in block.targets.reshape(-1)}
    outputs = int((wires.outgoing == 0).sum())
    assert len(ends) == outputs == _zoo(name).outputs[0].shape[1]
    assert set(torch.nonzero(wires.incoming == 0).flatten().tolist()) == set(first.sources.reshape(-1).tolist())


@pytest.mark.parametrize("name", ["resnet8", "senet18", "unet", "shufflenet_v2_x0_5", "densenet40", "simple_dla", "mlp"])
def test_a_node_is_one_channel_of_pruning(name: str) -> None:
    """Wherever pruning's coupling knows a node too, under any layer that makes or reads it, it is of one class."""
    graph = find_groups(_zoo(name)).graph
    layout, coupling = layout_of(graph), couple(graph, measure(graph))
    classes: dict[int, int] = {}
    for block in layout.blocks:
        for weights in block.weights:
            for ends, labels in zip((block.targets, block.sources), coupling.tensors[weights.tensor][:2], strict=True):
                if labels is not None and ends.numel() == len(labels):
                    for node, label in zip(ends.reshape(-1).tolist(), labels.tolist(), strict=True):
                        assert classes.setdefault(node, label) == label
    assert len(classes) > 0.5 * layout.nodes


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
