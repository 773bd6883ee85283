from __future__ import annotations

import copy
import functools
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compresskit.errors import InputError
from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.onnx_out import export_onnx
from compresskit.models.sessions import run


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, 1, 1, groups=2), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)), inplace=True)
        x = F.relu(x + self.norm2(self.conv2(x)))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Upsampling(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.ConvTranspose2d(4, 6, 3, 2, groups=2), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6 * 49, 4), nn.BatchNorm1d(4))


class Shuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        x = torch.cat([left, self.conv(torch.cat([right, right], 1))], 1)
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
        self.qkv = nn.Linear(8, 24)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.layer(torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1))
        n, length, width = x.shape
        q, k, v = self.qkv(x).reshape(n, length, 3, 2, width // 2).permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, length, width)
        return x[:, 0], x.mean(1)


class Nhwc(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Sizes(nn.Module):
    """Sizes that follow the batch, new tensors of such sizes, an input given back as it is."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        n, c = x.shape[0], x.shape[1]
        grid = torch.arange(n * c, device=x.device, dtype=torch.float32).reshape(n, c)
        pooled = F.adaptive_max_pool2d(x, 1).flatten(1)
        new = torch.zeros(n, c) + torch.ones(n, 1) + torch.full((n, c), 2.5)
        folded = x.reshape(n * (c // 2), 2, -1).sum(-1)
        return x, grid, pooled + new, folded, folded, torch.arange(n)


class Constants(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.randn(7, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.get_buffer("table")[torch.arange(3)] * 2


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "residual": (Residual, (3, 8, 8)),
    "upsampling": (Upsampling, (4, 3, 3)),
    "shuffle": (Shuffle, (4, 5, 5)),
    "attention": (Attention, (6, 8)),
    "nhwc": (Nhwc, (8, 8, 3)),
    "sizes": (Sizes, (4, 3, 3)),
    "constants": (Constants, (3, 3)),
}
every_model = pytest.mark.parametrize("name", MODELS)


def randomized(module: nn.Module) -> nn.Module:
    rng = torch.Generator().manual_seed(0)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_floating_point():
            tensor.data = torch.randn(tensor.shape, generator=rng) * 0.3 + (1.5 if "var" in name else 0.0)
    return module


@functools.cache
def build(name: str, batch: int | None = None, **options: Any) -> ModelGraph:
    torch.manual_seed(0)
    make, shape = MODELS[name]
    return graph_from_module(randomized(make()), [TensorSpec("image", (batch, *shape))], source="test", **options)


def assert_same(graph: ModelGraph, proto: onnx.ModelProto, batches: Sequence[int]) -> None:
    for batch in batches:
        inputs = tuple(torch.randn(spec.sized(batch)) for spec in graph.inputs)
        with torch.no_grad():
            expected = graph.module(*inputs)
        results = run(proto.SerializeToString(), {spec.name: tensor.numpy() for spec, tensor in zip(graph.inputs, inputs, strict=True)})
        for reference, result in zip(expected if isinstance(expected, tuple) else (expected,), results, strict=True):
            np.testing.assert_allclose(result, reference.numpy(), rtol=1e-4, atol=1e-5)


def strings(message: Any) -> list[str]:
    """Every string of a protobuf message, however deep; a list of characters and small fields."""
    found = []
    for field, value in message.ListFields():
        items = value if field.is_repeated else [value]
        if field.message_type is not None:
            found += [text for item in items for text in strings(item)]
        elif field.type == field.TYPE_STRING:
            found += list(items)
    return found


@every_model
def test_open_batch(name: str) -> None:
    graph = build(name)
    proto = export_onnx(graph)
    assert [axis.dim_param or axis.dim_value for axis in proto.graph.input[0].type.tensor_type.shape.dim] == ["batch", *MODELS[name][1]]
    assert [value.name for value in proto.graph.output] == [spec.name for spec in graph.outputs]
    assert_same(graph, proto, (1, 2, 5))


@every_model
def test_fixed_batch_of_a_graph_that_runs_at_any(name: str) -> None:
    graph = build(name, batch=3, free_batch=True)
    proto = export_onnx(graph)
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 3
    assert not any(node.op_type == "Shape" for node in proto.graph.node)
    assert_same(graph, proto, (3,))


@every_model
def test_the_same_graph_gives_the_same_bytes(name: str) -> None:
    again = graph_from_module(randomized(MODELS[name][0]()), build(name).inputs, source="elsewhere")
    assert export_onnx(build(name)).SerializeToString() == export_onnx(again).SerializeToString()


@every_model
def test_no_paths_and_no_traces(name: str) -> None:
    proto = export_onnx(build(name))
    assert not any("/" in text or "\n" in text for text in strings(proto))
    assert not proto.metadata_props


@every_model
def test_names_are_unique(name: str) -> None:
    proto = export_onnx(build(name))
    made = [output for node in proto.graph.node for output in node.output] + [tensor.name for tensor in proto.graph.initializer]
    nodes = [node.name for node in proto.graph.node]
    assert len(set(made)) == len(made)
    assert len(set(nodes)) == len(nodes)


def test_a_constant_output() -> None:
    class WithPositions(Constants):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return super().forward(x), self.get_buffer("table")

    graph = graph_from_module(WithPositions(), [TensorSpec("x", (1, 3, 3))], source="test", free_batch=False)
    assert_same(graph, export_onnx(graph), (1,))


def test_a_baked_batch_stays_baked_where_the_file_leaves_it_open() -> None:
    graph = build("attention", free_batch=False)
    proto = export_onnx(graph)
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    assert_same(graph, proto, (1,))


def test_batch_norm_disappears_where_it_can() -> None:
    graph = build("residual")
    folded, kept = export_onnx(graph), export_onnx(graph, fold_batchnorm=False)
    kinds = [node.op_type for node in folded.graph.node]
    assert kinds == ["Conv", "Relu", "Conv", "Add", "Relu", "GlobalAveragePool", "Flatten", "Gemm"]
    assert [node.op_type for node in kept.graph.node].count("BatchNormalization") == 2
    assert_same(graph, kept, (2,))
    assert {"conv1.weight", "conv2.bias", "head.weight"} <= {tensor.name for tensor in folded.graph.initializer}


def test_batch_norm_stays_where_the_convolution_has_another_reader() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return x + self.norm(x)

    graph = graph_from_module(randomized(Shared()), [TensorSpec("x", (None, 3, 4, 4))], source="test")
    proto = export_onnx(graph)
    assert "BatchNormalization" in [node.op_type for node in proto.graph.node]
    assert_same(graph, proto, (2,))


def test_one_layer_called_twice_and_folded_differently() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm1, self.norm2 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.norm2(self.conv(self.norm1(self.conv(x)))))

    graph = graph_from_module(randomized(Twice()), [TensorSpec("x", (None, 3, 4, 4))], source="test")
    assert_same(graph, export_onnx(graph), (2,))


def test_a_tensor_named_like_an_output_gives_way() -> None:
    graph = build("residual")
    clashing = ModelGraph(graph.module, (TensorSpec("conv1.weight", (None, 3, 8, 8)),), (TensorSpec("relu", ()),))
    assert_same(clashing, export_onnx(clashing), (2,))


def test_export_leaves_the_graph_as_it_was() -> None:
    graph = copy.deepcopy(build("residual"))
    graph.module.train()
    before = {key: value.clone() for key, value in graph.module.state_dict().items()}
    export_onnx(graph)
    assert all(torch.equal(value, before[key]) for key, value in graph.module.state_dict().items())
    assert all(part.training for part in graph.module.modules())


class Gap(nn.Module):
    """Has an operator without a handler of ours."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.atan2(x, x.square() + 1)


def gap() -> ModelGraph:
    return graph_from_module(Gap(), [TensorSpec("image", (None, 3))], source="test")


def test_operators_without_a_handler_go_through_torch(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxscript")
    proto = export_onnx(gap())
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert not any("/" in text or "\n" in text for text in strings(proto))
    assert_same(gap(), proto, (1, 4))
    assert capfd.readouterr() == ("", "")


def test_without_onnxscript_the_operator_and_the_way_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"aten\.atan2.*pip install onnxscript"):
        export_onnx(gap())
