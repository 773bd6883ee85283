"""Learned rounding: never worse than to the nearest, at an optimum of its kind, the same for the same seed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from compresskit.data import Dataset
from compresskit.models.sessions import run
from compresskit.quantization import rounding
from compresskit.quantization.config import QuantizeConfig
from compresskit.quantization.engine import learns, quantize
from compresskit.quantization.moments import LayerError, Moments
from compresskit.quantization.quantized import Quantized
from compresskit.quantization.rounding import learn_rounding

Build = Callable[..., onnx.ModelProto]


def _moments(seed: int, groups: int, outputs: int, inputs: int, centered: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray, LayerError]:
    """Weights, inputs that differ from those that the float network saw, its outputs, and what is remembered of both in two pieces."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((groups, outputs, inputs)).astype(np.float32)
    seen = rng.standard_normal((groups, 40, inputs)) @ rng.standard_normal((groups, inputs, inputs)) + 1
    y = (seen @ weights.transpose(0, 2, 1) + 0.5).astype(np.float32)
    z = (seen + 0.1 * rng.standard_normal(seen.shape)).astype(np.float32)
    moments = Moments(groups, outputs, inputs)
    for part in (slice(0, 13), slice(13, None)):
        moments.update(z[:, part], y[:, part])
    return weights, z, y, moments.layer_error(free_bias=centered)


def _wide(step: np.ndarray) -> np.ndarray:
    """Scales as they multiply weights."""
    return step[..., None].astype(np.float64)


@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 4), st.integers(1, 7), st.booleans())
def test_the_error_is_that_of_the_rows(seed: int, groups: int, outputs: int, inputs: int, centered: bool) -> None:
    weights, z, y, layer = _moments(seed, groups, outputs, inputs, centered)
    weights = weights + 0.1
    bias = layer.bias(weights)[:, None] if centered else 0.0
    want = ((y - z @ weights.transpose(0, 2, 1) - bias) ** 2).mean(axis=1)
    np.testing.assert_allclose(layer.error(weights), want, rtol=1e-3, atol=1e-3)


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 2), st.integers(1, 4), st.integers(1, 9), st.integers(2, 5), st.booleans())
def test_it_is_never_worse_than_the_nearest(seed: int, groups: int, outputs: int, inputs: int, bits: int, centered: bool) -> None:
    weights, _, _, layer = _moments(seed, groups, outputs, inputs, centered)
    top = 2 ** (bits - 1) - 1
    step = (np.abs(weights).max(axis=2) / top).astype(np.float32)
    learned, found = learn_rounding(weights, step, -top, top, layer)
    nearest = np.rint(weights / _wide(step)) * _wide(step)
    assert (layer.error(learned * _wide(found)) <= layer.error(nearest)).all()
    assert (np.abs(learned - np.clip(weights / _wide(found), -top, top)) < 1 + 1e-5).all()
    assert ((found >= 0.5 * step) & (found <= step)).all()


@pytest.mark.parametrize("large", [False, True])
def test_no_flip_of_one_weight_makes_it_better(monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    monkeypatch.setattr(rounding, "_BLOCK", 4)
    if large:
        monkeypatch.setattr(rounding, "_LARGE", 0)
    weights, _, _, layer = _moments(3, 2, 3, 10)
    step = (np.abs(weights).max(axis=2) / 3).astype(np.float32)
    learned, found = learn_rounding(weights, step, -3, 3, layer)
    floor = np.clip(np.floor(weights / _wide(found)), -3, 2)
    damped = layer.damped(weights)
    error = damped.error(learned * _wide(found))
    for at in range(10):
        flipped = learned.copy()
        flipped[..., at] = 2 * floor[..., at] + 1 - learned[..., at]
        inside = np.abs(weights[..., at]) < 3 * found  # beyond the grid there is no choice
        assert ((damped.error(flipped * _wide(found)) >= error * (1 - 1e-9)) | ~inside).all()


@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 5))
def test_damping_is_noise_of_the_inputs(seed: int, groups: int, inputs: int) -> None:
    weights, _, _, layer = _moments(seed, groups, 2, inputs)
    other = weights + np.random.default_rng(seed).standard_normal(weights.shape)
    variance = np.diagonal(layer.curvature, axis1=1, axis2=2)[:, None] * 0.5 * inputs / 40
    want = layer.error(other) + ((other - weights) ** 2 * variance).sum(axis=2)
    np.testing.assert_allclose(layer.damped(weights).error(other), want, rtol=1e-6, atol=1e-6)


def test_few_rows_do_no_harm() -> None:
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((64, 64)) * (np.arange(1, 65) ** -0.7)[:, None]
    weights = rng.standard_normal((1, 10, 64)).astype(np.float32)
    step = (np.abs(weights).max(axis=2) / 7).astype(np.float32)
    errors = []
    for rows in (8, 4000):
        z = np.maximum(rng.standard_normal((1, rows, 64)) @ mix, 0)
        moments = Moments(1, 10, 64)
        moments.update(z, z @ weights.transpose(0, 2, 1))
        errors.append(moments.layer_error(free_bias=True))
    few, many = errors
    learned, found = learn_rounding(weights, step, -7, 7, few)
    nearest = np.rint(weights / _wide(step)) * _wide(step)
    assert many.error(learned * _wide(found)).mean() < 0.9 * many.error(nearest).mean()


def test_it_is_near_the_best_of_all() -> None:
    weights, _, _, layer = _moments(5, 1, 6, 8)
    step = (np.abs(weights).max(axis=2) / 3).astype(np.float32)
    floor = np.floor(weights / _wide(step))
    learned, scales = learn_rounding(weights, step, -3, 3, layer)
    found = layer.error(learned * _wide(scales))
    every = [layer.error(np.clip(floor + np.array(up), -3, 3) * step[..., None]) for up in itertools.product((0, 1), repeat=8)]
    assert found.mean() < 1.1 * np.min(every, axis=0).mean()  # at the largest scale; it has others too
    assert layer.error(np.rint(weights / step[..., None]) * step[..., None]).mean() > 1.5 * found.mean()


def test_weights_that_lie_on_the_grid_stay() -> None:
    weights, _, _, layer = _moments(1, 1, 2, 6)
    weights[..., ::2] = 0
    step = np.abs(weights).max(axis=2) / 3
    assert not learn_rounding(weights, step, -3, 3, layer)[0][..., ::2].any()


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks as small as these need no more."""
    monkeypatch.setattr(rounding, "STEPS", 100)


def _quantized(model: onnx.ModelProto, dataset: Dataset, how: str, **settings: Any) -> Quantized:
    return quantize(model, dataset, QuantizeConfig(rounding=how, calibration="minmax", equalize="no", **{"samples": 48, **settings}))


def _noise(model: onnx.ModelProto, done: Quantized, dataset: Dataset) -> float:
    fresh = dataset.train.x[48:]
    want, got = (run(one.SerializeToString(), {"x": fresh})[0] for one in (model, done.model))
    return float(((want - got) ** 2).mean() / want.var())


@pytest.mark.parametrize(("weights", "activations"), [(3, 8), (4, 4)])
def test_outputs_come_nearer_to_the_float_model_s(residual: onnx.ModelProto, dataset: Dataset, weights: int, activations: int) -> None:
    noise = {
        how: _noise(residual, _quantized(residual, dataset, how, weights=weights, activations=activations), dataset) for how in ("nearest", "learned")
    }
    assert noise["learned"] < 0.7 * noise["nearest"]


def test_the_seed_decides(residual: onnx.ModelProto, dataset: Dataset) -> None:
    first, again, other = (_quantized(residual, dataset, "learned", weights=3, seed=seed).model.SerializeToString() for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(("how", "learned"), [("auto", [2, 3, 4]), ("learned", [2, 3, 4, 5, 8]), ("nearest", [])])
def test_by_default_it_is_learned_from_four_bits_down(how: str, learned: list[int]) -> None:
    assert [bits for bits in (2, 3, 4, 5, 8) if learns(QuantizeConfig(rounding=how), bits)] == learned


def test_weights_of_two_layers_are_rounded_to_the_nearest(build: Build, weight: Any, dataset: Dataset) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c", "w"], ["d"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["d", "v"], ["y"]),
    ]
    done = _quantized(build(nodes, {"w": weight(3, 3, 3, 3), "v": weight(4, 3, 3, 3)}), dataset, "learned", weights=4)
    assert set(done.rounded) == {"v"}


def test_a_bias_of_two_layers_stays(build: Build, weight: Any, dataset: Dataset) -> None:
    nodes = [helper.make_node("Conv", ["x", name, "b"], [out]) for name, out in (("v", "y"), ("w", "z"))]
    stored = {"v": weight(4, 3, 1, 1), "w": weight(4, 3, 1, 1, seed=1), "b": np.ones(4, np.float32)}
    done = _quantized(build(nodes, stored, outputs=("y", "z")), dataset, "learned", weights=3)
    assert set(done.rounded) == {"v", "w"}


def test_weights_that_other_operators_read_stay(build: Build, weight: Any, dataset: Dataset) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("ReduceMax", ["w"], ["m"]),
        helper.make_node("Add", ["c", "m"], ["y"]),
    ]
    done = _quantized(build(nodes, {"w": weight(4, 3, 3, 3)}), dataset, "learned", weights=3)
    assert not done.rounded


def test_a_model_that_fixes_its_batch(build: Build, weight: Any, dataset: Dataset) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("GlobalAveragePool", ["c"], ["y"])]
    models = [build(nodes, {"w": weight(4, 3, 3, 3)}, shape=(batch, 3, 8, 8)) for batch in (5, "N")]
    fixed, free = (_quantized(model, dataset, "learned", weights=3, samples=45).rounded["w"] for model in models)
    np.testing.assert_allclose(fixed, free)  # nine whole batches, of which every place is looked at
