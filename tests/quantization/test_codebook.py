"""Codebooks: what k-means finds, what is stored, and what ONNX Runtime makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper

from compresskit.errors import InputError, UsageError
from compresskit.models.sessions import run
from compresskit.quantization.codebook import codebook, k_means
from compresskit.quantization.config import QuantizeConfig
from compresskit.quantization.engine import quantize
from compresskit.quantization.grid import symmetric
from compresskit.quantization.measure import layer_rows

Build = Callable[..., onnx.ModelProto]
VALUES = hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(-1, 1, width=32))


def _squares(values: np.ndarray, centers: np.ndarray) -> float:
    return float((np.abs(values[:, None] - centers).min(axis=1) ** 2).sum())


@given(VALUES, st.integers(1, 9))
def test_k_means_ends_where_a_slow_round_changes_nothing(values: np.ndarray, count: int) -> None:
    values = np.sort(values)
    centers = k_means(values, count)
    assert 1 <= len(centers) <= count
    assert (np.diff(centers) >= 0).all()
    home = np.abs(values[:, None] - centers).argmin(axis=1)
    again = [values[home == index].mean() if (home == index).any() else center for index, center in enumerate(centers)]
    assert _squares(values, np.array(again)) == pytest.approx(_squares(values, centers), abs=1e-9)


@pytest.mark.parametrize("axis", [0, 1])
def test_it_changes_weights_less_than_a_grid(weight: Any, axis: int) -> None:
    w = weight(32, 64, seed=3) if axis == 0 else weight(32, 64, seed=3).T.copy()
    for bits in (2, 3, 4, 6):
        errors = [float(((code.round_trip(w) - w) ** 2).sum()) for code in (codebook(w, bits, axis), symmetric(w, bits, axis=axis))]
        assert errors[0] < errors[1]


def test_zeros_stay_zeros(weight: Any) -> None:
    w = weight(8, 4, 3, 3)
    w[np.random.default_rng(0).random(w.shape) < 0.5] = 0
    w[3] = 0
    rounded = codebook(w, 3, 0).round_trip(w)
    assert not rounded[w == 0].any()
    assert rounded[w != 0].any()


@settings(max_examples=8)
@given(st.integers(2, 8))
def test_the_model_computes_with_the_nearest_centers(residual: onnx.ModelProto, samples: np.ndarray, bits: int) -> None:
    done = quantize(residual, None, QuantizeConfig(bits, codebook=True))
    network = done.network
    rounded = network.edited(network.nodes, {name: book.round_trip(network.constants[name]) for name, book in done.codebooks.items()})
    want, got = (run(model.SerializeToString(), {"x": samples})[0] for model in (rounded.to_model(), done.model))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    assert {len(book.centers) for book in done.codebooks.values()} <= set(range(2, 2**bits + 1))


@pytest.mark.parametrize(("bits", "kind", "packed"), [(2, "UINT2", 2), (3, "UINT4", 4), (4, "UINT4", 4), (8, "UINT8", 8)])
def test_indices_are_packed_and_the_report_says_what_they_take(residual: onnx.ModelProto, bits: int, kind: str, packed: int) -> None:
    done = quantize(residual, None, QuantizeConfig(bits, codebook=True))
    stored = {tensor.name: tensor for tensor in done.model.graph.initializer}
    assert TensorProto.DataType.Name(stored["w1_indices"].data_type) == kind
    assert len(stored["w1_indices"].raw_data) == 8 * 8 * 9 * packed // 8
    row = next(row for row in layer_rows(done) if row.name == "first")
    parts = sum(len(stored[f"w1_{part}"].raw_data) for part in ("indices", "centers", "scale"))
    assert (row.weight_bits, row.rounding, row.bytes_after) == (bits, "codebook", parts + 8 * 4)  # and a bias
    assert "DequantizeLinear" not in {node.op_type for node in done.model.graph.node}


def test_onnx_runtime_looks_nothing_up_while_it_runs(residual: onnx.ModelProto, fused: Callable[..., Any]) -> None:
    assert not {"Cast", "Gather"} & set(fused(quantize(residual, None, QuantizeConfig(4, codebook=True)).model))


def test_shared_weights_are_stored_once(build: Build, weight: Any) -> None:
    nodes = [helper.make_node("Gemm", ["x", "w"], ["h"]), helper.make_node("Gemm", ["h", "w"], ["y"])]
    done = quantize(build(nodes, {"w": weight(6, 6)}, shape=("N", 6)), None, QuantizeConfig(4, codebook=True))
    assert [node.op_type for node in done.model.graph.node] == ["Cast", "Gather", "Mul", "Gemm", "Gemm"]


def test_there_must_be_weights(build: Build) -> None:
    with pytest.raises(InputError, match="there is nothing to quantize"):
        quantize(build([helper.make_node("Relu", ["x"], ["y"])], {}), None, QuantizeConfig(codebook=True))


def test_settings_that_do_not_go_together() -> None:
    with pytest.raises(UsageError, match="--codebook takes weights of at most 8 bits, not 9"):
        QuantizeConfig(9, codebook=True)
    with pytest.raises(UsageError, match="--codebook stores trained weights: it does not go with --method lsq"):
        QuantizeConfig(4, method="lsq", codebook=True)
