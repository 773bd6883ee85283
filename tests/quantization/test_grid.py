"""Uniform affine quantization against scalar arithmetic and against ONNX Runtime's QuantizeLinear."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper, numpy_helper

from compresskit.models.sessions import run
from compresskit.quantization.grid import SMALLEST_SCALE, Grid, asymmetric, symmetric

ENDS = st.floats(-1e6, 1e6, width=32)
BITS = st.integers(2, 16)
WEIGHTS = arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=st.floats(-100, 100, width=32))


def _slowly(grid: Grid, value: float) -> int:
    """What one number becomes, in Python's own arithmetic (its `round` is half to even too)."""
    scaled = float(np.float32(value) / np.float32(grid.scale))
    return max(grid.low, min(grid.high, round(scaled) + int(grid.zero)))


@given(ENDS, ENDS, BITS)
def test_zero_is_exact_and_the_range_is_covered(one: float, other: float, bits: int) -> None:
    low, high = min(one, other), max(one, other)
    grid = asymmetric(low, high, bits)
    assert grid.round_trip(np.zeros(1, np.float32))[0] == 0
    assert (grid.low, grid.high, grid.bits) == (0, 2**bits - 1, bits)
    ends = np.array([low, high, low / 3, high / 3], np.float32)
    assert np.all(np.abs(grid.round_trip(ends) - ends) <= 1.001 * float(grid.scale) + 1e-6 * np.abs(ends))


@given(ENDS, ENDS, BITS, st.lists(st.floats(-2e6, 2e6, width=32), min_size=1, max_size=20))
def test_the_integers_are_those_of_scalar_arithmetic(one: float, other: float, bits: int, values: list[float]) -> None:
    grid = asymmetric(min(one, other), max(one, other), bits)
    assert grid.quantize(np.array(values, np.float32)).tolist() == [_slowly(grid, value) for value in values]


@given(WEIGHTS, BITS)
def test_weights_are_half_a_step_off_at_most_in_every_channel(weight: np.ndarray, bits: int) -> None:
    grid = symmetric(weight, bits, axis=0)
    integers = grid.quantize(weight)
    assert -(2 ** (bits - 1)) < integers.min() <= integers.max() < 2 ** (bits - 1)
    assert np.all(np.abs(grid.dequantize(integers) - weight) <= 0.5001 * grid.scale[:, None] + 1e-6 * np.abs(weight))
    alone = [symmetric(row, bits) for row in weight]
    assert np.array_equal(grid.scale, [one.scale for one in alone])
    assert np.array_equal(integers, [one.quantize(row) for one, row in zip(alone, weight, strict=True)])


def test_a_tensor_of_zeros_gets_steps_that_divide_nothing_by_zero() -> None:
    for grid in (asymmetric(0, 0, 8), symmetric(np.zeros((2, 3), np.float32), 8, axis=0)):
        assert np.all(grid.scale > SMALLEST_SCALE)
        assert np.array_equal(grid.round_trip(np.zeros((2, 3), np.float32)), np.zeros((2, 3)))


def test_least_scales_hold() -> None:
    grid = symmetric(np.ones((2, 3), np.float32), 8, axis=0, least=np.array([0.0, 2.0]))
    assert np.allclose(grid.scale, [1 / 127, 2])


@pytest.mark.parametrize("bits", [8, 16])
def test_onnx_runtime_agrees(bits: int) -> None:
    grid = asymmetric(-1.3, 2.9, bits)
    x = np.concatenate([np.linspace(-2, 4, 10_001), (np.arange(40) + 0.5) * float(grid.scale)]).astype(np.float32)
    kind = TensorProto.UINT8 if bits == 8 else TensorProto.UINT16
    stored = [numpy_helper.from_array(grid.scale, "s"), helper.make_tensor("z", kind, (), [int(grid.zero)])]
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)], [helper.make_tensor_value_info("y", kind, x.shape)]
    graph = helper.make_graph([helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])], "g", *ends, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    assert np.array_equal(run(model.SerializeToString(), {"x": x})[0], grid.quantize(x))
