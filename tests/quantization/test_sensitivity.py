"""Quantizing one layer alone: that layer and no other, and what is lost where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from compresskit.data import Dataset, Split
from compresskit.models.sessions import run
from compresskit.quantization.config import QuantizeConfig
from compresskit.quantization.engine import quantize
from compresskit.quantization.sensitivity import alone, sensitivities

Build = Callable[..., onnx.ModelProto]
WAYS = {"static": {}, "weights": {}, "codebook": {"codebook": True}}


@pytest.mark.parametrize("way", WAYS)
def test_one_layer_is_quantized_and_no_other(residual: onnx.ModelProto, dataset: Dataset, way: str) -> None:
    config = QuantizeConfig(3, calibration="minmax", rounding="nearest", equalize="no", **WAYS[way])
    done = quantize(residual, None if way == "weights" else dataset, config)
    constants = done.network.constants
    for layer in done.layers:
        model = alone(done, layer)
        stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        intact = [one.weight for one in done.layers if one is not layer]
        assert all(np.array_equal(stored[name], constants[name]) for name in intact)
        assert layer.weight not in stored
        assert sum(node.op_type == "QuantizeLinear" for node in model.graph.node) == (way == "static")
        assert np.isfinite(run(model.SerializeToString(), {"x": dataset.train.x[:2]})[0]).all()


@pytest.fixture
def fragile(build: Build, weight: Any, dataset: Dataset) -> tuple[onnx.ModelProto, Dataset]:
    """A network whose second layer loses everything with few bits: its largest weights, a thousand times the others, are those of an input that is
    always 0. The labels of training and validation are what it says itself; those of the test split are others."""
    nodes = [
        helper.make_node("Gemm", ["x", "u"], ["a"], transB=1),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Gemm", ["b", "v"], ["y"], transB=1),
    ]
    first, second = weight(8, 6), weight(5, 8)
    first[0], second[:, 0] = 0, 1000
    model = build(nodes, {"u": first, "v": second}, shape=("N", 6))
    x = np.random.default_rng(0).standard_normal((200, 6)).astype(np.float32)
    said = run(model.SerializeToString(), {"x": x})[0].argmax(axis=1).astype(np.int64)
    right = Split(x, said)
    return model, replace(dataset, train=right, validation=right, test=Split(x, (said + 1) % 5))


@pytest.mark.parametrize("static", [True, False])
def test_the_fragile_layer_is_found(fragile: tuple[onnx.ModelProto, Dataset], static: bool) -> None:
    model, data = fragile
    config = QuantizeConfig(5, calibration="minmax", rounding="nearest", equalize="no")
    lost = sensitivities(quantize(model, data if static else None, config), data)
    assert lost["y"] > 0.4
    assert abs(lost["a"]) < 0.1
