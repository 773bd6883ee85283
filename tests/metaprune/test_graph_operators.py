"""Networks beyond the zoo: attention spelled out, shared weights, kernels in 1-D and 3-D, and operators without a conversion."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from compresskit.metaprune.features import features, parameters
from compresskit.metaprune.graph import layout_of
from compresskit.metaprune.layout import FEATURES, Layout
from compresskit.metaprune.pna_wiring import wiring
from compresskit.models import zoo
from compresskit.models.graph import TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.onnx_in import import_onnx
from compresskit.models.onnx_out import export_onnx


def _layout(net: nn.Module, *shape: int) -> Layout:
    """The layout of `net`, once every parameter has survived the round trip or is listed."""
    graph = graph_from_module(net, [TensorSpec("x", (None, *shape))], source="test")
    layout, rng = layout_of(graph), torch.Generator().manual_seed(0)
    named = {**dict(graph.module.named_parameters()), **dict(graph.module.named_buffers())}
    tensors = {name: torch.randn(tensor.shape, generator=rng) if tensor.is_floating_point() else tensor for name, tensor in named.items()}
    back = parameters(layout, *features(layout, tensors))
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in back.items())
    assert back.keys() | {skipped.group for skipped in layout.skipped} == dict(graph.module.named_parameters()).keys()
    return layout


def _shapes(layout: Layout) -> dict[str, tuple[int, ...]]:
    return {block.name: block.shape for block in layout.blocks}


class SpelledOut(nn.Module):
    """Attention by matrix products; `crossed`: keys and values are of something else than queries."""

    def __init__(self, crossed: bool) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(8, 8) for _ in range(4))
        self.other = nn.Linear(8, 8) if crossed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.other(x)
        q, k, v = (layer(z).unflatten(2, (2, 4)).transpose(1, 2) for layer, z in ((self.query, x), (self.key, y), (self.value, y)))
        weights = (q @ k.transpose(-1, -2) / 2).softmax(-1)
        return x + self.out((weights @ v).transpose(1, 2).flatten(2))


def test_attention_spelled_out_is_attention() -> None:
    layout = _layout(SpelledOut(crossed=False), 5, 8)
    assert _shapes(layout) == {"query": (1, 8, 8, 3), "out": (1, 8, 8, 1)}
    assert layout.nodes == 8 * 3  # what comes in, the heads, what goes out
    columns = {values.tensor: FEATURES[int(values.columns[0])] for values in layout.values}
    assert columns == {"query.bias": "query.bias", "key.bias": "key.bias", "value.bias": "value.bias", "out.bias": "bias"}


def test_queries_of_something_else_have_edges_of_their_own() -> None:
    layout = _layout(SpelledOut(crossed=True), 5, 8)
    assert _shapes(layout) == {"other": (1, 8, 8, 1), "query": (1, 8, 8, 1), "key": (1, 8, 8, 2), "out": (1, 8, 8, 1)}
    query, key = (next(block for block in layout.blocks if block.name == name) for name in ("query", "key"))
    assert query.taps[:, -3:].tolist() == [[1, 0, 0]]
    assert key.taps[:, -3:].tolist() == [[0, 1, 0], [0, 0, 1]]
    assert torch.equal(query.targets, key.targets)


def test_rows_of_a_joint_projection_meet_head_by_head() -> None:
    layout = _layout(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 5, 8)
    joint = next(block for block in layout.blocks if len(block.weights) == 3)
    rows = [weights.rows for weights in joint.weights]
    assert all(torch.equal(found, torch.arange(8) + 8 * part) for part, found in enumerate(rows))


class Shared(nn.Module):
    """One weight under two names, one of which is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 8, bias=False)
        self.last.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.norm(self.first(torch.relu(self.first(x))))))


def test_a_shared_weight_has_edges_at_each_use_and_is_written_once() -> None:
    layout = _layout(Shared(), 8)
    assert layout.nodes == 8 * 4
    written = [weights.written for block in layout.blocks for weights in block.weights]
    assert written == [True, False, False]


def test_kernels_in_one_and_three_dimensions() -> None:
    in_one = nn.Sequential(nn.Conv1d(4, 8, 3, groups=2), nn.ConvTranspose1d(8, 6, 5, groups=2), nn.GLU(1), nn.Flatten(), nn.Linear(66, 3))
    layout = _layout(in_one, 4, 20)
    assert _shapes(layout) == {"0": (2, 4, 2, 3), "1": (2, 3, 4, 5), "4": (1, 3, 66, 1)}
    assert layout.nodes == 4 + 8 + 3 + 3  # a gate is one with what it lets through
    in_three = nn.Sequential(nn.Conv3d(2, 4, (1, 3, 5)), nn.BatchNorm3d(4), nn.MaxPool3d(2), nn.Flatten(), nn.Linear(96, 3))
    layout = _layout(in_three, 2, 8, 8, 8)
    assert _shapes(layout) == {"0": (1, 4, 2, 15), "4": (1, 3, 96, 1)}
    assert layout.blocks[0].taps[:, :3].unique(dim=0).shape == (15, 3)
    assert layout.blocks[1].sources.unique(return_counts=True)[1].tolist() == [24] * 4  # a flattened image: each channel several times


class Gained(nn.Module):
    """Gains and offsets of channels, and an offset of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8, affine=True), nn.Linear(8, 2)
        self.scale, self.shift, self.positions = (nn.Parameter(torch.ones(shape)) for shape in ((8, 1, 1), (8,), (36, 1)))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(self.scale * self.conv(x)).flatten(2).transpose(1, 2)
        return self.head(tokens + self.shift + self.positions).mean(1)


def test_gains_and_offsets_are_norms() -> None:
    layout = _layout(Gained(), 3, 8, 8)
    assert layout.nodes == 3 + 8 + 8 + 8 + 2  # a node has one norm: what a second and a third belong to follow it
    columns = {values.tensor: FEATURES[int(values.columns[0])] for values in layout.values}
    norms = {"scale": "norm.weight", "norm.weight": "norm.weight", "norm.bias": "norm.bias", "shift": "norm.bias"}
    assert columns == {"conv.bias": "bias", **norms, "head.bias": "bias"}
    assert [skipped.group for skipped in layout.skipped] == ["positions"]


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gain, self.slope, self.norm = nn.Conv2d(3, 8, 3), nn.Parameter(torch.ones(8, 6, 6)), nn.PReLU(8), nn.LayerNorm([8, 6, 6])
        self.rest, self.head = nn.LSTM(6, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.slope(self.conv(x) * self.gain)).mean(2)
        return self.head(self.rest(y)[0][:, -1])


def test_what_has_no_conversion_is_listed() -> None:
    layout = _layout(Odd(), 3, 8, 8)
    reasons = {skipped.group: skipped.reason for skipped in layout.skipped}
    rest = {f"rest.{kind}_{end}_l0" for kind in ("weight", "bias") for end in ("ih", "hh")}
    assert reasons.keys() == {"gain", "slope.weight", "norm.weight", "norm.bias", *rest}
    assert reasons["gain"] == "a free parameter (mul reads it) has no conversion"
    assert reasons["slope.weight"] == "PReLU has no conversion"


@pytest.mark.parametrize("gate", [nn.Sigmoid(), nn.Hardswish(), nn.Softplus(), nn.Softmax(dim=1)])
def test_nothing_between_two_layers_hides_one_from_the_other(gate: nn.Module) -> None:
    layout = _layout(nn.Sequential(nn.Linear(4, 6), gate, nn.Dropout(), nn.Linear(6, 2)), 4)
    wires = wiring(layout, torch.device("cpu"))
    assert layout.nodes == 4 + 6 + 2
    assert (wires.incoming.tolist(), wires.outgoing.tolist()) == ([0] * 4 + [4] * 6 + [6] * 2, [6] * 4 + [2] * 6 + [0] * 2)


class Twice(nn.Module):
    """The value that a shortcut projects is read by itself too."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.shortcut, self.beside, self.head = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        projected = self.shortcut(x)
        total = self.body(x) + projected
        return self.head(total + projected) + self.beside(projected)


def test_what_became_one_node_is_read_as_one() -> None:
    layout = _layout(Twice(), 4)
    assert layout.nodes == 4 + 6 + 3
    columns = {values.tensor: FEATURES[int(values.columns[0])] for values in layout.values}
    assert sorted(columns.values()) == ["bias", "bias", "shortcut.bias", "shortcut.bias"]


def test_a_file_in_another_format_has_the_same_graph() -> None:
    spec = TensorSpec("x", (None, 3, 32, 32))
    graph = graph_from_module(zoo.build("vit", width=0.125), [spec], source="vit")
    layout, back = layout_of(graph), layout_of(import_onnx(export_onnx(graph), source="vit"))
    assert (layout.nodes, layout.edges, [block.shape for block in layout.blocks]) == (back.nodes, back.edges, [block.shape for block in back.blocks])
    assert layout.skipped == back.skipped
