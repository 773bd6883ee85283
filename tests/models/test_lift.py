"""Lifting changes the form of a model, never its values."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compresskit.errors import InputError
from compresskit.models.graph import TensorSpec
from compresskit.models.lift import graph_from_module

IMAGE = (TensorSpec("x", (None, 3, 8, 8)),)


class Everything(nn.Module):
    """One of each leaf, in-place calls, attention and a recurrent call."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding="same")
        self.norm = nn.BatchNorm2d(8)
        self.group = nn.GroupNorm(2, 8)
        self.instance = nn.InstanceNorm2d(8, affine=True)
        self.act = nn.PReLU(8)
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)
        self.drop = nn.Dropout(0.5)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.lstm = nn.LSTM(8, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu_(self.norm(self.conv(x)))
        x = self.up(self.act(self.instance(self.group(self.drop(x)))))
        doubled = x
        x += 1
        x = x + doubled
        first, second = x.chunk(2, 1)
        tokens = torch.cat([second, first], 1).flatten(2).transpose(1, 2)
        return self.lstm(self.layer(tokens))[0].mean(1)


@pytest.mark.parametrize("batch", [1, 5])
def test_values_are_equal_to_the_bit(batch: int) -> None:
    torch.manual_seed(0)
    model = Everything().eval()
    model.norm.running_mean.normal_()
    graph = graph_from_module(model, IMAGE, source="test")
    assert graph.free_batch
    (x,) = graph.example(batch)
    assert torch.equal(graph.module(x), model(x))


def test_leaves_carry_the_names_and_the_very_parameters_of_the_model() -> None:
    model = Everything().eval()
    graph = graph_from_module(model, IMAGE, source="test")
    leaves = {str(node.target): type(graph.module.get_submodule(str(node.target))) for node in graph.module.graph.nodes if node.op == "call_module"}
    assert leaves["conv"] is nn.Conv2d
    assert leaves["layer.self_attn.in_proj"] is nn.Linear
    assert graph.module.get_parameter("conv.weight") is model.conv.weight


def test_a_shared_layer_stays_one_leaf() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.fc(x).relu())

    graph = graph_from_module(Shared(), (TensorSpec("x", (None, 4)),), source="test")
    assert [str(node.target) for node in graph.module.graph.nodes if node.op == "call_module"] == ["fc", "fc"]


def test_norm_trains_after_the_lift() -> None:
    graph = graph_from_module(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), IMAGE, source="test")
    before = graph.module.get_buffer("1.running_mean").clone()
    graph.module.train()(*graph.example(4))
    assert not torch.equal(before, graph.module.get_buffer("1.running_mean"))


def test_a_baked_batch_is_noticed() -> None:
    class Baked(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(1, -1)

    graph = graph_from_module(Baked(), (TensorSpec("x", (1, 3, 8, 8)),), source="test")
    assert not graph.free_batch
    assert graph.outputs[0].shape == (1, 192)


def test_a_general_convolution_and_a_weight_kept_as_a_buffer_become_leaves() -> None:
    class General(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("kernel", torch.randn(5, 3, 3, 3))
            self.back = nn.Parameter(torch.randn(5, 4, 2, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = F.conv2d(x, self.kernel)
            return torch.ops.aten.convolution(x, self.back, None, [2, 2], [0, 0], [1, 1], True, [0, 0], 1)

    model = General().eval()
    graph = graph_from_module(model, IMAGE, source="test")
    first, second = (graph.module.get_submodule(str(node.target)) for node in graph.module.graph.nodes if node.op == "call_module")
    assert (type(first), type(second)) == (nn.Conv2d, nn.ConvTranspose2d)
    assert (first.weight.requires_grad, second.weight is model.back) == (False, True)
    assert torch.equal(graph.module(*graph.example()), model(*graph.example()))


def test_what_cannot_be_traced_is_refused_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    class Branches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(InputError, match="cannot trace"):
        graph_from_module(Branches(), IMAGE, source="model.py:Branches")
    assert capfd.readouterr() == ("", "")
