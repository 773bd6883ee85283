"""Rows of inputs and outputs: their product is what ONNX Runtime's layers put out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from compresskit.models.sessions import run
from compresskit.quantization.layers import find_layers
from compresskit.quantization.network import Network
from compresskit.quantization.patches import MOST_PLACES, as_matrices, as_stored, draw_places, input_rows, output_rows

Build = Callable[..., onnx.ModelProto]


def _check(model: onnx.ModelProto, x: np.ndarray) -> int:
    """Compare rows of one layer without a bias; return their number a sample."""
    network = Network.of(model)
    (layer,) = find_layers(network)
    weight = network.constants[layer.weight]
    matrices = as_matrices(layer, weight)
    assert np.array_equal(as_stored(layer, matrices, weight.shape), weight)
    y = run(model.SerializeToString(), {"x": x})[0]
    places = draw_places(layer, y, np.random.default_rng(0))
    inputs, outputs = input_rows(layer, weight, x, places, len(matrices)), output_rows(layer, y, places, len(matrices))
    np.testing.assert_allclose(inputs @ matrices.transpose(0, 2, 1), outputs, rtol=1e-4, atol=1e-4)
    return inputs.shape[1] // len(x)


@settings(max_examples=25)
@given(st.data())
def test_convolutions(build: Build, weight: Any, data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 3))
    group = data.draw(st.sampled_from([1, 2, 4]))
    kernel, strides, dilations = (data.draw(st.lists(st.integers(1, most), min_size=rank, max_size=rank)) for most in (3, 2, 2))
    margins: dict[str, Any] = {"pads": data.draw(st.lists(st.integers(0, 2), min_size=2 * rank, max_size=2 * rank))}
    if data.draw(st.booleans()):
        margins = {"auto_pad": data.draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]))}
        dilations = [1] * rank
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=group, strides=strides, dilations=dilations, kernel_shape=kernel, **margins)
    shape = (4, *range(6, 6 + rank))
    model = build([node], {"w": weight(8, 4 // group, *kernel)}, shape=("N", *shape))
    _check(model, np.random.default_rng(1).standard_normal((2, *shape)).astype(np.float32))


@pytest.mark.parametrize("kind", ["gemm", "gemm transposed", "matmul", "matmul of tokens"])
def test_products(build: Build, weight: Any, kind: str) -> None:
    shape = (7, 5) if kind.endswith("tokens") else (5,)
    transposed = kind.endswith("transposed")
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=int(transposed)) if "gemm" in kind else helper.make_node("MatMul", ["x", "w"], ["y"])
    model = build([node], {"w": weight(6, 5) if transposed else weight(5, 6)}, shape=("N", *shape))
    assert _check(model, np.random.default_rng(1).standard_normal((3, *shape)).astype(np.float32)) == (7 if len(shape) > 1 else 1)


def test_large_outputs_are_looked_at_in_few_places(build: Build, weight: Any) -> None:
    model = build([helper.make_node("Conv", ["x", "w"], ["y"])], {"w": weight(2, 3, 1, 1)}, shape=("N", 3, 20, 20))
    assert _check(model, np.random.default_rng(1).standard_normal((2, 3, 20, 20)).astype(np.float32)) == MOST_PLACES
