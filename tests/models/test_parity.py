from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from compresskit.errors import GuardError
from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.onnx_out import export_onnx
from compresskit.models.parity import check_parity
from compresskit.models.zoo import build


class Net(nn.Module):
    """Convolutions, a residual, attention and a head: something of everything to tamper with."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.query, self.key, self.value = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.norm2, self.head = nn.LayerNorm(8), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.relu(x + self.conv2(x)).flatten(2).transpose(1, 2)
        x = x + F.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x))
        return self.head(self.norm2(x).mean(1))


@functools.cache
def exported(batch: int | None = None) -> tuple[ModelGraph, onnx.ModelProto]:
    torch.manual_seed(0)
    graph = graph_from_module(Net(), [TensorSpec("image", (batch, 3, 6, 6))], source="test")
    return graph, export_onnx(graph)


def edit(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[onnx.ModelProto], None]:
    """Replace an initializer."""

    def tamper(model: onnx.ModelProto) -> None:
        (tensor,) = [entry for entry in model.graph.initializer if entry.name == name]
        tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()).astype(np.float32), name))

    return tamper


def swap(first: str, second: str) -> Callable[[onnx.ModelProto], None]:
    """Exchange two initializers."""

    def tamper(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.input[:] = [{first: second, second: first}.get(name, name) for name in node.input]

    return tamper


def drop(kind: str, index: int = 0) -> Callable[[onnx.ModelProto], None]:
    """Turn a node into Identity."""

    def tamper(model: onnx.ModelProto) -> None:
        node = [entry for entry in model.graph.node if entry.op_type == kind][index]
        del node.input[1:]
        del node.attribute[:]
        node.op_type = "Identity"

    return tamper


def replace(kind: str, other: str, index: int = 0) -> Callable[[onnx.ModelProto], None]:
    def tamper(model: onnx.ModelProto) -> None:
        [entry for entry in model.graph.node if entry.op_type == kind][index].op_type = other

    return tamper


def zero_row(index: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[index] = 0
        return array

    return change


def nudge(by: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array.flat[0] += by
        return array

    return change


SABOTAGE: dict[str, Callable[[onnx.ModelProto], None]] = {
    "scaled first layer": edit("conv1.weight", lambda w: w * 1.01),
    "scaled by a hair": edit("conv2.weight", lambda w: w * 1.001),
    "scaled head": edit("head.weight", lambda w: w * 0.999),
    "negated layer": edit("value.weight", lambda w: -w),
    "zeroed channel": edit("conv1.weight", zero_row(3)),
    "zeroed channel, second layer": edit("conv2.weight", zero_row(0)),
    "zeroed class": edit("head.weight", zero_row(9)),
    "zeroed layer": edit("query.weight", np.zeros_like),
    "swapped weights": swap("query.weight", "value.weight"),
    "swapped biases": swap("query.bias", "value.bias"),
    "permuted channels": edit("conv2.weight", lambda w: w[::-1]),
    "permuted classes": edit("head.weight", lambda w: np.roll(w, 1, 0)),
    "flipped kernel": edit("conv1.weight", lambda w: w[..., ::-1]),
    "perturbed bias": edit("conv1.bias", nudge(0.01)),
    "perturbed head bias": edit("head.bias", nudge(1e-4)),
    "one perturbed weight": edit("conv2.weight", nudge(0.01)),
    "rounded to half precision": edit("head.weight", lambda w: w.astype(np.float16)),
    "dropped relu": drop("Relu"),
    "dropped norm": drop("LayerNormalization"),
    "dropped softmax": drop("Softmax"),
    "leaky relu": replace("Relu", "LeakyRelu", 1),
    "product for sum": replace("Add", "Mul"),
    "noise on every weight": edit("conv1.weight", lambda w: w + np.random.default_rng(0).normal(0, 1e-3, w.shape)),
}


@pytest.mark.parametrize("name", SABOTAGE)
def test_sabotage_is_refused(name: str) -> None:
    graph, model = exported()
    tampered = copy.deepcopy(model)
    SABOTAGE[name](tampered)
    with pytest.raises(GuardError, match="the exported model is not the model"):
        check_parity(graph, tampered.SerializeToString())


@pytest.mark.parametrize("batch", [None, 1, 5])
def test_honest_exports_pass(batch: int | None) -> None:
    graph, model = exported(batch)
    parity = check_parity(graph, model.SerializeToString())
    assert parity.max_ratio <= 1
    assert parity.samples == (32 if batch != 5 else 35)


@pytest.mark.parametrize("name", ["resnet56", "vit"])
def test_deep_nets_pass_with_room_and_tampered_ones_do_not(name: str) -> None:
    """Statistics that grow the signal, so that rounding errors do too."""
    torch.manual_seed(0)
    net = build(name)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_var.fill_(0.3)  # type: ignore[union-attr]
    graph = graph_from_module(net, [TensorSpec("image", (None, 3, 32, 32))], source="test")
    model = export_onnx(graph)
    assert check_parity(graph, model.SerializeToString(), inputs=4).max_ratio < 0.6
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    edit(largest.name, lambda w: w * 1.01)(model)
    with pytest.raises(GuardError):
        check_parity(graph, model.SerializeToString(), inputs=4)


def test_real_samples() -> None:
    graph, model = exported()
    images = np.random.default_rng(0).random((11, 3, 6, 6), dtype=np.float32)
    assert check_parity(graph, model.SerializeToString(), samples=[images]).samples == 11
    fixed, fixed_model = exported(5)
    assert check_parity(fixed, fixed_model.SerializeToString(), samples=[images]).samples == 15


def test_token_inputs_stay_inside_the_embedding() -> None:
    net = nn.Sequential(nn.Embedding(5, 8), nn.Flatten(), nn.Linear(24, 2))
    graph = graph_from_module(net, [TensorSpec("tokens", (None, 3), torch.int64)], source="test")
    model = export_onnx(graph)
    assert check_parity(graph, model.SerializeToString()).max_ratio <= 1
    edit("0.weight", zero_row(4))(model)
    with pytest.raises(GuardError):
        check_parity(graph, model.SerializeToString())


def test_integer_outputs_have_to_be_equal() -> None:
    class Classes(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).argmax(1)

    torch.manual_seed(0)
    graph = graph_from_module(Classes(), [TensorSpec("image", (None, 3, 6, 6))], source="test")
    model = export_onnx(graph)
    assert check_parity(graph, model.SerializeToString()).max_abs_error == 0
    edit("head.weight", lambda w: -w)(model)
    with pytest.raises(GuardError):
        check_parity(graph, model.SerializeToString())


class Undefined(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.log()


def test_nan_and_infinity_have_to_agree() -> None:
    graph = graph_from_module(Undefined(), [TensorSpec("x", (None, 3))], source="test")
    model = export_onnx(graph)
    samples = [np.array([[0, -1, 1], [2, np.inf, 3]], dtype=np.float32)]
    assert check_parity(graph, model.SerializeToString(), samples=samples).max_ratio <= 1
    model.graph.node[0].op_type = "Neg"
    with pytest.raises(GuardError):
        check_parity(graph, model.SerializeToString(), samples=samples)


def test_a_wrong_shape_is_a_violation() -> None:
    graph, _ = exported()
    other = graph_from_module(nn.Sequential(nn.Flatten(), nn.Linear(108, 4)), [TensorSpec("image", (None, 3, 6, 6))], source="test")
    with pytest.raises(GuardError, match="shape"):
        check_parity(graph, export_onnx(other).SerializeToString())


def test_a_model_that_does_not_run_is_a_violation() -> None:
    graph, model = exported()
    broken = copy.deepcopy(model)
    broken.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(GuardError, match="ONNX Runtime cannot run"):
        check_parity(graph, broken.SerializeToString())


def test_the_graph_is_left_as_it_was() -> None:
    graph, model = exported()
    before = {key: value.clone() for key, value in graph.module.state_dict().items()}
    check_parity(graph, model.SerializeToString())
    assert all(torch.equal(value, before[key]) and value.dtype == before[key].dtype for key, value in graph.module.state_dict().items())
