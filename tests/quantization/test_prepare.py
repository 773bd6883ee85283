"""Simplifying a float model: what it computes stays, what quantization needs appears."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from compresskit.errors import InputError
from compresskit.models.sessions import run
from compresskit.quantization.prepare import converted, prepare

Build = Callable[..., onnx.ModelProto]


def _same(model: onnx.ModelProto, x: np.ndarray) -> Counter[str]:
    """Check that the prepared model is valid and computes what `model` does; return its operators."""
    ready = prepare(model, "m.onnx").to_model()
    onnx.checker.check_model(ready, full_check=True)
    for old, new in zip(*(run(one.SerializeToString(), {"x": x}) for one in (model, ready)), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-4, atol=1e-5)
    return Counter(node.op_type for node in ready.graph.node)


def _norm(size: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(size)
    return {"s": rng.uniform(0.5, 2, size), "o": rng.standard_normal(size), "m": rng.standard_normal(size), "v": rng.uniform(0.1, 2, size)}


def _float(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value.astype(np.float32) for name, value in values.items()}


@pytest.mark.parametrize("bias", [True, False])
def test_batch_norms_are_folded(build: Build, weight: Any, samples: np.ndarray, bias: bool) -> None:
    stored = {"w": weight(4, 3, 3, 3), "b": weight(4, 1).ravel(), **_float(_norm(4))}
    nodes = [helper.make_node("Conv", ["x", "w", *(["b"] if bias else [])], ["c"]), helper.make_node("BatchNormalization", ["c", *"somv"], ["y"])]
    assert _same(build(nodes, stored), samples) == {"Conv": 1}


@pytest.mark.parametrize("transposed", [0, 1])
def test_batch_norms_are_folded_into_linear_layers(build: Build, weight: Any, transposed: int) -> None:
    stored = {"w": weight(*((4, 6) if transposed else (6, 4))), "b": weight(4, 1).ravel(), **_float(_norm(4))}
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["c"], transB=transposed), helper.make_node("BatchNormalization", ["c", *"somv"], ["y"])]
    assert _same(build(nodes, stored, shape=("N", 6)), np.ones((2, 6), np.float32)) == {"Gemm": 1}


def test_a_batch_norm_of_what_others_read_too_stays(build: Build, weight: Any, samples: np.ndarray) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", *"somv"], ["n"]),
        helper.make_node("Add", ["c", "n"], ["y"]),
    ]
    assert _same(build(nodes, {"w": weight(4, 3, 3, 3), **_float(_norm(4))}), samples)["BatchNormalization"] == 1


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2]])
def test_global_pooling_is_restored(build: Build, samples: np.ndarray, keep: int, axes: list[int]) -> None:
    model = build([helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=keep)], {"axes": np.array(axes, np.int64)})
    assert _same(model, samples)["GlobalAveragePool"] == 1


def test_a_mean_over_channels_is_no_pooling(build: Build, samples: np.ndarray) -> None:
    assert _same(build([helper.make_node("ReduceMean", ["x", "axes"], ["y"])], {"axes": np.array([1, 2], np.int64)}), samples) == {"ReduceMean": 1}


@pytest.mark.parametrize("swapped", [False, True])
def test_a_product_and_a_sum_are_a_gemm(build: Build, weight: Any, swapped: bool) -> None:
    terms = ["b", "p"] if swapped else ["p", "b"]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", terms, ["y"])]
    model = build(nodes, {"w": weight(6, 4), "b": weight(4, 1).ravel()}, shape=("N", 6))
    assert _same(model, np.ones((2, 6), np.float32)) == {"Gemm": 1}


def test_a_product_of_three_dimensions_is_none(build: Build, weight: Any) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])]
    model = build(nodes, {"w": weight(6, 4), "b": weight(4, 1).ravel()}, shape=("N", 2, 6))
    assert _same(model, np.ones((2, 2, 6), np.float32)) == {"MatMul": 1, "Add": 1}


def test_idle_nodes_go_and_constants_are_stored(build: Build, samples: np.ndarray) -> None:
    one = numpy_helper.from_array(np.float32(1), "one")
    nodes = [
        helper.make_node("Constant", [], ["k"], value=one),
        helper.make_node("Identity", ["x"], ["i"]),
        helper.make_node("Dropout", ["i"], ["d"]),
        helper.make_node("Add", ["d", "k"], ["s"]),
        helper.make_node("Identity", ["s"], ["y"]),
    ]
    assert _same(build(nodes, {}), samples) == {"Add": 1, "Identity": 1}


def test_old_opsets_are_converted(build: Build, weight: Any, samples: np.ndarray) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", *"somv"], ["n"]),
        helper.make_node("Dropout", ["n"], ["y"], ratio=0.5),
    ]
    model = build(nodes, {"w": weight(4, 3, 3, 3), **_float(_norm(4))}, opset=9)
    assert prepare(model, "m.onnx").opset == 13
    assert _same(model, samples)["Conv"] == 1


def test_what_cannot_be_converted_is_refused_with_the_reason(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
        raise RuntimeError("No Adapter For Loop\nat this line")

    monkeypatch.setattr(onnx.version_converter, "convert_version", fail)
    with pytest.raises(InputError, match=r"^m\.onnx: opset 9 cannot be brought to 13, .+ \(No Adapter For Loop\): export the model anew$"):
        prepare(build([helper.make_node("Relu", ["x"], ["y"])], {}, opset=9), "m.onnx")


def test_a_later_opset_stays(residual: onnx.ModelProto) -> None:
    assert converted(residual, 13, "m.onnx") is residual


def test_quantized_models_are_refused(build: Build, static: Any, residual: onnx.ModelProto) -> None:
    with pytest.raises(InputError, match=r"m\.onnx: is quantized already \(DequantizeLinear, QuantizeLinear\): start from the float model"):
        prepare(static(residual).model, "m.onnx")


def test_half_precision_is_refused(build: Build, weight: Any) -> None:
    nodes = [helper.make_node("Cast", ["w"], ["f"], to=1), helper.make_node("Conv", ["x", "f"], ["y"])]
    with pytest.raises(InputError, match=r"m\.onnx: its weights are of half precision \(w\): start from the float32 model"):
        prepare(build(nodes, {"w": weight(4, 3, 3, 3).astype(np.float16)}), "m.onnx")
