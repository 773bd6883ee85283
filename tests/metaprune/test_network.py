"""The metanetwork: equal to message passing edge by edge, differentiable, and the same after a trip through a file."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from safetensors import torch as safetensors
from torch import Tensor, nn

from compresskit.errors import InputError, UsageError
from compresskit.metaprune.features import features
from compresskit.metaprune.graph import layout_of
from compresskit.metaprune.layout import Layout
from compresskit.metaprune.network import Metanetwork, MetanetworkConfig, load, rewrite, save
from compresskit.metaprune.pna import EPSILON, MessagePassing
from compresskit.models import zoo
from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.lift import graph_from_module

CONFIG = MetanetworkConfig(layers=2, width=8)


@pytest.fixture(scope="module")
def graph() -> ModelGraph:
    return graph_from_module(zoo.build("resnet8", width=0.25), [TensorSpec("x", (None, 3, 8, 8))], source="test")


def _tensors(graph: ModelGraph) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in (*graph.module.named_parameters(), *graph.module.named_buffers())}


def _edge_list(layout: Layout) -> Tensor:
    """(2, E): both ends of every edge, in the order in which blocks hold them."""
    ends = [torch.stack(torch.broadcast_tensors(block.sources[:, None, :], block.targets[:, :, None])).flatten(1) for block in layout.blocks]
    return torch.cat(ends, dim=1)


def _aggregated(messages: Tensor, receivers: Tensor, count: int) -> Tensor:
    """Equation 18, node by node: (count, 4 * width)."""
    rows = []
    for node in range(count):
        mine = messages[receivers == node]
        if len(mine):
            spread = (mine.var(dim=0, unbiased=False) + EPSILON).sqrt()
            rows.append(torch.cat([mine.mean(0), spread, mine.amax(0), mine.amin(0)]))
        else:
            rows.append(messages.new_zeros(4 * messages.shape[1]))
    return torch.stack(rows)


def _slow(layer: MessagePassing, nodes: Tensor, edges: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """Equations 14 to 19 as they are written: (N, width) and (E, width)."""
    i, j = ends
    half = nodes.shape[1] // 2
    inverted = edges * torch.cat([torch.ones(half), -torch.ones(half)]).to(edges)
    ahead = layer.sender(nodes[i]) * layer.receiver(nodes[j]) * edges
    back = layer.sender(nodes[j]) * layer.receiver(nodes[i]) * inverted
    nodes = nodes + layer.aggregate(_aggregated(ahead, j, len(nodes))) + layer.aggregate(_aggregated(back, i, len(nodes)))
    changed = layer.edge_first(nodes[i]) * layer.edge_second(nodes[j]) * edges + layer.edge_first(nodes[j]) * layer.edge_second(nodes[i]) * inverted
    return nodes, edges + changed


def test_blocks_do_what_an_edge_list_does(graph: ModelGraph) -> None:
    layout = layout_of(graph)
    torch.manual_seed(0)
    metanetwork = Metanetwork(CONFIG).double()
    nodes, blocks = features(layout, {name: tensor.double() for name, tensor in _tensors(graph).items()})
    with torch.no_grad():
        fast_nodes, fast_blocks = metanetwork(layout, nodes, blocks)
        hidden = metanetwork.node_encoder(nodes)
        flat = [(values @ metanetwork.tap_encoder(block.taps.double())).flatten(0, 2) for block, values in zip(layout.blocks, blocks, strict=True)]
        edges = metanetwork.edge_encoder(torch.cat(flat).T).T
        for layer in metanetwork.layers:
            hidden, edges = _slow(layer, hidden, edges, _edge_list(layout))
        torch.testing.assert_close(fast_nodes, nodes + 0.01 * metanetwork.node_decoder(hidden), rtol=0, atol=1e-8)
        for block, values, fast, deep in zip(layout.blocks, blocks, fast_blocks, edges.split([v.numel() // v.shape[3] for v in blocks]), strict=True):
            columns, offset = metanetwork.tap_decoder(block.taps.double()).split([8, 1], dim=1)
            added = metanetwork.edge_decoder(deep.T).T @ columns.T + offset.T
            slow = values + 0.01 * added.reshape(values.shape) if block.weights else values
            torch.testing.assert_close(fast, slow, rtol=0, atol=1e-8)


def test_a_rewritten_network_runs_and_the_metanetwork_learns_from_it(graph: ModelGraph) -> None:
    torch.manual_seed(0)
    metanetwork = Metanetwork(CONFIG)
    tensors = _tensors(graph)
    new = rewrite(metanetwork, layout_of(graph), tensors)
    assert new.keys() == dict(graph.module.named_parameters()).keys()
    assert all(new[name].shape == tensors[name].shape and not torch.equal(new[name], tensors[name]) for name in new)
    torch.func.functional_call(graph.module, {**tensors, **new}, (torch.randn(2, 3, 8, 8),)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in metanetwork.parameters())


def test_renumbered_channels_are_rewritten_alike() -> None:
    """Channels have no order: what comes out for a network with its channels renumbered is what came out, renumbered. Kernels are of all sizes."""
    net = nn.Sequential(
        nn.Conv2d(3, 6, 7), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 5, groups=6), nn.Conv2d(6, 4, 1), nn.Flatten(), nn.Linear(64, 2)
    )
    graph = graph_from_module(net, [TensorSpec("x", (None, 3, 14, 14))], source="test")
    layout, tensors, order = layout_of(graph), _tensors(graph), torch.randperm(6, generator=torch.Generator().manual_seed(1))

    def renumbered(named: dict[str, Tensor]) -> dict[str, Tensor]:
        made = {name: tensor[order] if tensor.ndim and len(tensor) == 6 else tensor for name, tensor in named.items()}
        return {**made, "4.weight": named["4.weight"][:, order]}

    torch.manual_seed(0)
    metanetwork = Metanetwork(CONFIG)
    before, after = rewrite(metanetwork, layout, tensors), rewrite(metanetwork, layout, renumbered(tensors))
    for name, tensor in renumbered(before).items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-6)


def test_a_network_without_weights_stays() -> None:
    bare = graph_from_module(nn.BatchNorm2d(3), [TensorSpec("x", (None, 3, 4, 4))], source="test")
    tensors = _tensors(bare)
    new = rewrite(Metanetwork(CONFIG), layout_of(bare), tensors)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in new.items())


def test_thrift_changes_nothing(graph: ModelGraph) -> None:
    torch.manual_seed(0)
    metanetwork, layout = Metanetwork(MetanetworkConfig(layers=5, width=8)), layout_of(graph)
    read = features(layout, _tensors(graph))
    found = []
    for thrifty in (False, True):
        metanetwork.zero_grad()
        nodes, blocks = metanetwork(layout, *read, thrifty=thrifty)
        (nodes.square().sum() + sum(values.square().sum() for values in blocks)).backward()
        found.append([nodes, *blocks, *(parameter.grad for parameter in metanetwork.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    with torch.no_grad():
        nodes, blocks = metanetwork(layout, *read, thrifty=True)
    assert all(torch.equal(one, other) for one, other in zip([nodes, *blocks], found[0], strict=False))


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")])
def test_where_memory_runs_out_less_is_kept(graph: ModelGraph, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    metanetwork, layout = Metanetwork(CONFIG), layout_of(graph)
    expected, whole = rewrite(metanetwork, layout, _tensors(graph)), Metanetwork.forward

    def tight(self: Metanetwork, *graph: object, thrifty: bool = False) -> object:
        if not thrifty:
            raise error
        return whole(self, *graph, thrifty=True)

    monkeypatch.setattr(Metanetwork, "forward", tight)
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            new = rewrite(metanetwork, layout, _tensors(graph))
        assert all(torch.equal(new[name], expected[name]) for name in expected)


def test_a_file_holds_all_of_it() -> None:
    metanetwork = Metanetwork(CONFIG)
    back = load(save(metanetwork))
    assert back.config == CONFIG
    assert all(torch.equal(one, other) for one, other in zip(metanetwork.parameters(), back.parameters(), strict=True))


def test_a_metanetwork_for_other_features_is_refused() -> None:
    data = save(Metanetwork(MetanetworkConfig(layers=1, width=4, node_features=8)))
    with pytest.raises(InputError, match=r"mine\.safetensors reads 8 node features, this compresskit makes 13"):
        load(data, "mine.safetensors")


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut": (lambda data: data[:-1], "no whole safetensors file"),
    "empty": (lambda data: b"", "no whole safetensors file"),
    "another file": (lambda data: safetensors.save({"weight": torch.zeros(2)}), "holds no metanetwork"),
    "another version": (lambda data: data.replace(rb"\"version\": 1", rb"\"version\": 2"), "of another version than 1"),
    "no config": (lambda data: data.replace(rb"\"layers\"", rb"\"lagers\""), "expected numbers named layers, width"),
    "too wide": (lambda data: data.replace(rb"\"width\": 8", rb"\"width\": 0"), "a metanetwork of 0 width: expected 1 to 1024"),
    "of another width": (lambda data: data.replace(rb"\"width\": 8", rb"\"width\": 9"), "edge_decoder.linear.bias has the shape"),
    "not finite": (lambda data: data[:-4] + b"\xff\xff\xff\xff", "not finite"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_file_is_refused(kind: str) -> None:
    damage, message = DAMAGES[kind]
    data = save(Metanetwork(CONFIG))
    assert damage(data) != data
    with pytest.raises(InputError, match=message):
        load(damage(data))


def test_a_metanetwork_of_no_layers_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="0 layers: expected 1 to 256"):
        MetanetworkConfig(layers=0)


def test_half_precision_is_kept(graph: ModelGraph) -> None:
    tensors = {name: tensor.to(torch.bfloat16) if name.endswith("weight") else tensor for name, tensor in _tensors(graph).items()}
    new = rewrite(Metanetwork(CONFIG), layout_of(graph), tensors)
    assert {name: tensor.dtype for name, tensor in new.items()} == {name: tensors[name].dtype for name in new}
