"""MACs against hand computation and against PyTorch's own counter where that is right; memory against hand computation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from compresskit.models.cost import Cost, NodeCost, node_costs, total
from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.lift import graph_from_module


def lifted(module: nn.Module, *shapes: tuple[int | None, ...]) -> ModelGraph:
    specs = [TensorSpec(f"x{index}", shape) for index, shape in enumerate(shapes)]
    return graph_from_module(module, specs, source="test", free_batch=shapes[0][0] is None)


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


class First(nn.Module):
    """The output sequence of a recurrent layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


LAYERS = {
    # out positions * out channels * in channels / groups * kernel
    "conv1d": (nn.Conv1d(6, 8, 3), (None, 6, 10), 8 * 8 * 6 * 3),
    "conv1d same": (nn.Conv1d(6, 8, 3, padding="same"), (None, 6, 10), 10 * 8 * 6 * 3),
    "conv2d": (nn.Conv2d(3, 16, 3, stride=2, padding=1), (None, 3, 9, 9), 5 * 5 * 16 * 3 * 9),
    "conv2d dilated": (nn.Conv2d(3, 4, 3, dilation=2), (None, 3, 9, 9), 5 * 5 * 4 * 3 * 9),
    "conv2d grouped": (nn.Conv2d(8, 12, (3, 1), groups=4), (None, 8, 7, 7), 5 * 7 * 12 * 2 * 3),
    "conv2d depthwise": (nn.Conv2d(8, 16, 5, groups=8), (None, 8, 7, 7), 3 * 3 * 16 * 1 * 25),
    "conv3d": (nn.Conv3d(2, 4, 2), (None, 2, 4, 4, 4), 27 * 4 * 2 * 8),
    # in positions * in channels * out channels / groups * kernel
    "transposed 1d": (nn.ConvTranspose1d(6, 4, 3, stride=2), (None, 6, 10), 10 * 6 * 4 * 3),
    "transposed 2d": (nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1), (None, 6, 5, 5), 25 * 6 * 4 * 16),
    "transposed 2d grouped": (nn.ConvTranspose2d(6, 4, 3, groups=2), (None, 6, 5, 5), 25 * 6 * 2 * 9),
    "transposed 3d": (nn.ConvTranspose3d(2, 3, 2, stride=2), (None, 2, 3, 3, 3), 27 * 2 * 3 * 8),
    "linear": (nn.Linear(7, 5), (None, 7), 35),
    "linear rank 4": (nn.Linear(7, 5, bias=False), (None, 3, 2, 7), 6 * 35),
    # steps * gates * hidden * (input + hidden), per layer and direction
    "lstm": (First(nn.LSTM(5, 7, batch_first=True)), (1, 11, 5), 11 * 4 * 7 * (5 + 7)),
    "lstm 2 layers both ways": (
        First(nn.LSTM(5, 7, num_layers=2, bidirectional=True)),
        (11, 1, 5),
        11 * 2 * (4 * 7 * (5 + 7) + 4 * 7 * (14 + 7)),
    ),
    "lstm projected": (First(nn.LSTM(5, 7, proj_size=3)), (11, 1, 5), 11 * (4 * 7 * (5 + 3) + 3 * 7)),
    "gru": (First(nn.GRU(5, 7)), (11, 1, 5), 11 * 3 * 7 * (5 + 7)),
    "rnn": (First(nn.RNN(5, 7)), (11, 1, 5), 11 * 7 * (5 + 7)),
    "norm, pool, activation": (nn.Sequential(nn.BatchNorm2d(3), nn.GELU(), nn.AvgPool2d(2), nn.Softmax(1)), (None, 3, 4, 4), 0),
    "layer norm": (nn.LayerNorm(6), (None, 4, 6), 0),
}

PRODUCTS = {
    "matmul": (torch.matmul, [(1, 3, 4), (1, 4, 5)], 3 * 4 * 5),
    "matmul broadcast": (torch.matmul, [(2, 1, 3, 4), (7, 4, 5)], 2 * 7 * 3 * 4 * 5),
    "matmul by a vector": (torch.matmul, [(2, 3, 4), (4,)], 2 * 3 * 4),
    "mm": (torch.mm, [(3, 4), (4, 5)], 3 * 4 * 5),
    "mv": (torch.mv, [(3, 4), (4,)], 12),
    "dot": (torch.dot, [(4,), (4,)], 4),
    "bmm": (torch.bmm, [(2, 3, 4), (2, 4, 5)], 2 * 3 * 4 * 5),
    "addmm": (torch.addmm, [(5,), (3, 4), (4, 5)], 3 * 4 * 5),
    "baddbmm": (torch.baddbmm, [(2, 3, 5), (2, 3, 4), (2, 4, 5)], 2 * 3 * 4 * 5),
    "addbmm": (torch.addbmm, [(3, 5), (2, 3, 4), (2, 4, 5)], 2 * 3 * 4 * 5),
    "einsum": (lambda a, b: torch.einsum("bhid,bhjd->bhij", a, b), [(2, 3, 4, 5), (2, 3, 6, 5)], 2 * 3 * 4 * 6 * 5),
    "einsum of three": (lambda a, b, c: torch.einsum("ij,jk,kl->il", a, b, c), [(2, 3), (3, 4), (4, 5)], 2 * 3 * 4 + 2 * 4 * 5),
    "computed weight": (lambda x, w: F.conv2d(x, w.tanh(), groups=2), [(1, 4, 6, 6), (8, 2, 3, 3)], 16 * 8 * 2 * 9),
    "computed transposed weight": (lambda x, w: F.conv_transpose2d(x, w.tanh(), stride=2), [(1, 4, 6, 6), (4, 8, 3, 3)], 36 * 4 * 8 * 9),
    "computed linear weight": (lambda x, w: F.linear(x, w.tanh()), [(1, 3, 4), (5, 4)], 3 * 4 * 5),
    "attention": (F.scaled_dot_product_attention, [(1, 2, 5, 8), (1, 2, 7, 8), (1, 2, 7, 6)], 2 * 5 * 7 * (8 + 6)),
    "causal attention": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        [(1, 2, 5, 8)] * 3,
        2 * 5 * 5 * (8 + 8),
    ),
    "element-wise": (lambda a, b: (a * b + a).relu().sum(-1), [(3, 4), (3, 4)], 0),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer_macs_equal_hand_computation(name: str) -> None:
    module, shape, expected = LAYERS[name]
    assert total(lifted(module, shape)).macs == expected


@pytest.mark.parametrize("name", PRODUCTS)
def test_product_macs_equal_hand_computation(name: str) -> None:
    function, operands, expected = PRODUCTS[name]
    assert total(lifted(Call(function), *operands)).macs == expected


def test_fused_and_unfused_attention_cost_the_same() -> None:
    attention = nn.MultiheadAttention(12, 3, batch_first=True)
    unfused = lifted(Call(lambda x: attention(x, x, x)[0]), (1, 5, 12))
    fused = lifted(Call(lambda x: attention(x, x, x, need_weights=False)[0]), (1, 5, 12))
    assert total(unfused).macs == total(fused).macs == 5 * 12 * 36 + 2 * 3 * 5 * 5 * 4 + 5 * 12 * 12
    assert "scaled_dot_product_attention" in {node.kind for node in node_costs(fused)}


@settings(max_examples=15)
@given(
    groups=st.sampled_from([1, 2, 4]),
    outs=st.sampled_from([4, 8]),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    transposed=st.booleans(),
    size=st.integers(5, 8),
)
def test_macs_equal_pytorchs_counter(groups: int, outs: int, kernel: int, stride: int, transposed: bool, size: int) -> None:
    make = nn.ConvTranspose2d if transposed else nn.Conv2d
    module = nn.Sequential(
        make(4, outs, kernel, stride=stride, groups=groups), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(outs * 4, 3)
    )
    with FlopCounterMode(display=False) as counter:
        module(torch.randn(1, 4, size, size))
    assert 2 * total(lifted(module, (None, 4, size, size))).macs == counter.get_total_flops()


def convnet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    )


def test_node_costs_name_every_call_and_add_up() -> None:
    graph = lifted(convnet(), (None, 3, 6, 6))
    nodes = node_costs(graph)
    assert nodes[0] == NodeCost("0", "Conv2d", 36 * 8 * 27, 216, 8 * 36 * 4)
    assert nodes[-1] == NodeCost("5", "Linear", 80, 90, 40)
    assert len(nodes) == sum(node.op in ("call_module", "call_function") for node in graph.module.graph.nodes)
    cost = total(graph)
    assert cost.macs == sum(node.macs for node in nodes)
    assert cost.params == sum(node.params for node in nodes) == sum(p.numel() for p in convnet().parameters())
    assert cost.bytes == sum(tensor.nbytes for tensor in graph.module.state_dict().values())


def test_macs_grow_with_the_batch_unless_it_is_baked() -> None:
    free = lifted(convnet(), (None, 3, 6, 6))
    assert total(free, batch=5).macs == 5 * total(free).macs
    fixed = lifted(convnet(), (2, 3, 6, 6))
    assert total(fixed, batch=5) == total(fixed)
    assert total(fixed).macs == 2 * total(free).macs


def test_cost_follows_a_cut() -> None:
    graph = lifted(convnet(), (None, 3, 6, 6))
    conv, norm, head = (graph.module.get_submodule(name) for name in ("0", "1", "5"))
    conv.weight = nn.Parameter(conv.weight[:5].detach())
    for name in ("weight", "bias"):
        setattr(norm, name, nn.Parameter(getattr(norm, name)[:5].detach()))
    norm.running_mean, norm.running_var = norm.running_mean[:5], norm.running_var[:5]
    head.weight = nn.Parameter(head.weight[:, :5].detach())
    assert total(graph).macs == 36 * 5 * 27 + 5 * 10
    assert total(graph).params == 5 * 27 + 10 + 60


class Tied(nn.Module):
    """One weight as embedding and as output layer, and one layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 4)
        self.layer = nn.Linear(4, 4)
        self.head = nn.Linear(4, 9, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.layer(self.layer(self.embed(tokens))))


def test_shared_parameters_count_once_and_their_macs_every_time() -> None:
    graph = graph_from_module(Tied(), [TensorSpec("tokens", (None, 3), torch.int64)], source="test")
    assert total(graph) == Cost(3 * (16 + 16 + 36), 36 + 20, 56 * 4, 3 * (4 + 9) * 4)
    assert [(node.kind, node.params) for node in node_costs(graph)] == [("Embedding", 36), ("Linear", 20), ("Linear", 0), ("Linear", 0)]


PEAKS = {
    # floats alive at the worst moment, inputs included
    "chain frees as it goes": (lambda x: x.relu().tanh().sigmoid(), 2 * 24),
    "a skip stays alive": (lambda x: x.relu().tanh() + x, 3 * 24),
    "views are free": (lambda x: x.view(1, 6, 4).transpose(1, 2).unsqueeze(0), 24),
    "a view keeps its base alive": (lambda x: x.relu()[:, :1].tanh().tanh().tanh(), 2 * 24),
    "copies are not free": (lambda x: x.transpose(0, 1).contiguous(), 2 * 24),
    "concatenation": (lambda x: torch.cat([x.relu(), x.tanh()]), 4 * 24),
    "only the first of two results": (lambda x: x.max(dim=1)[0], 24 + 4 + 2 * 4),
}


@pytest.mark.parametrize("name", PEAKS)
def test_peak_activation_equals_hand_computation(name: str) -> None:
    function, floats = PEAKS[name]
    assert total(lifted(Call(function), (4, 6))).peak_activation_bytes == 4 * floats
