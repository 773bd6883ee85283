"""Cross-layer equalization: the same function to the bit, with channels of like range."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto, helper

from compresskit.models.isolated import Child
from compresskit.models.sessions import run
from compresskit.quantization import engine
from compresskit.quantization.calibrate import draw_samples
from compresskit.quantization.config import QuantizeConfig
from compresskit.quantization.equalize import equalized, find_pairs
from compresskit.quantization.network import Network
from compresskit.quantization.patches import as_matrices
from compresskit.quantization.plan import make_plan
from compresskit.quantization.prepare import prepare
from compresskit.quantization.weights_only import quantize_weights

Build = Callable[..., onnx.ModelProto]
CONV = {"pads": [1, 1, 1, 1]}


def _uneven(weight: np.ndarray, seed: int) -> np.ndarray:
    """Weights whose output channels differ a thousandfold."""
    gains = 10.0 ** np.random.default_rng(seed).uniform(-1.5, 1.5, (len(weight), *[1] * (weight.ndim - 1)))
    return (weight * gains).astype(np.float32)


def _chain(weight: Any, middle: str, seed: int = 0) -> tuple[list[NodeProto], dict[str, np.ndarray]]:
    """Two layers with something in between, and a third; `middle` says what."""
    depthwise = middle == "depthwise"
    between = {
        "pools": [helper.make_node("Relu", ["a"], ["b"]), helper.make_node("MaxPool", ["b"], ["m"], kernel_shape=[2, 2], strides=[2, 2])],
        "leaky": [helper.make_node("LeakyRelu", ["a"], ["m"], alpha=0.1)],
        "nothing": [],
    }.get(middle, [helper.make_node("Relu", ["a"], ["m"])])
    source = between[-1].output[0] if between else "a"
    group = {"depthwise": 8, "grouped": 2}.get(middle, 1)
    nodes = [
        helper.make_node("Conv", ["x", "u", "bu"], ["a"], **CONV),
        *between,
        helper.make_node("Conv", [source, "v", "bv"], ["c"], group=group, **CONV),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"], transB=1),
    ]
    stored = {"u": _uneven(weight(8, 3, 3, 3, seed=seed), seed), "v": _uneven(weight(8, 1 if depthwise else 8 // group, 3, 3, seed=seed), seed + 1)}
    biases = {name: np.random.default_rng(seed).standard_normal(8).astype(np.float32) for name in ("bu", "bv")}
    return nodes, {**stored, **biases, "w": weight(5, 8, seed=seed)}


@settings(max_examples=15)
@given(st.sampled_from(["relu", "leaky", "nothing", "pools", "grouped", "depthwise"]), st.integers(0, 1000))
def test_the_function_stays_to_the_bit(build: Build, weight: Any, samples: np.ndarray, middle: str, seed: int) -> None:
    nodes, stored = _chain(weight, middle, seed)
    network = Network.of(build(nodes, stored))
    assert len(find_pairs(network)) == 2
    balanced = equalized(network)
    want, got = (run(one.to_model().SerializeToString(), {"x": samples[:4]})[0] for one in (network, balanced))
    assert np.array_equal(want, got)
    for pair in find_pairs(balanced):
        made, read = (as_matrices(layer, balanced.constants[layer.weight]) for layer in (pair.first, pair.second))
        by_channel = read.reshape(len(read), read.shape[1], 8 // len(read), -1)
        ratio = np.abs(made).max(axis=2).ravel() / np.abs(by_channel).max(axis=(1, 3)).ravel()
        assert (np.abs(np.log2(ratio)) <= 1.001).all()  # a factor of two would change nothing


def test_a_flattened_image_keeps_its_channels(build: Build, weight: Any, samples: np.ndarray) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "u"], ["a"], **CONV),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Flatten", ["b"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    network = Network.of(build(nodes, {"u": _uneven(weight(4, 3, 3, 3), 0), "w": weight(256, 5)}))
    balanced = equalized(network)
    assert not np.array_equal(balanced.constants["w"], network.constants["w"])
    want, got = (run(one.to_model().SerializeToString(), {"x": samples[:4]})[0] for one in (network, balanced))
    assert np.array_equal(want, got)


@pytest.mark.parametrize("why", ["two readers", "an output", "Sigmoid", "shared weights", "added to"])
def test_what_cannot_be_scaled_stays(build: Build, weight: Any, why: str) -> None:
    nodes = [helper.make_node("Conv", ["x", "u"], ["a"], **CONV), helper.make_node("Relu", ["a"], ["b"])]
    outputs = ["y"]
    stored = {"u": _uneven(weight(3, 3, 3, 3), 0), "v": weight(3, 3, 3, 3)}
    last = helper.make_node("Conv", ["b", "v"], ["y"], **CONV)
    if why == "two readers":
        nodes.append(helper.make_node("Sigmoid", ["b"], ["z"]))
        outputs.append("z")
    elif why == "an output":
        outputs.append("b")
    elif why == "Sigmoid":
        nodes[1] = helper.make_node("Sigmoid", ["a"], ["b"])
    elif why == "shared weights":
        last = helper.make_node("Conv", ["b", "u"], ["y"], **CONV)
    else:
        nodes[1] = helper.make_node("Add", ["a", "x"], ["b"])
    network = Network.of(build([*nodes, last], stored, outputs=outputs))
    assert equalized(network) is network


def test_dead_channels_do_no_harm(build: Build, weight: Any, samples: np.ndarray) -> None:
    nodes, stored = _chain(weight, "relu")
    stored["u"][2] = 0
    stored["v"][:, 5] = 0
    network = Network.of(build(nodes, stored))
    balanced = equalized(network)
    assert all(np.isfinite(value).all() for value in balanced.constants.values())
    want, got = (run(one.to_model().SerializeToString(), {"x": samples[:4]})[0] for one in (network, balanced))
    assert np.array_equal(want, got)


def test_weights_of_few_bits_lose_less(build: Build, weight: Any, samples: np.ndarray) -> None:
    nodes, stored = _chain(weight, "relu")
    stored["v"] = np.ascontiguousarray(_uneven(stored["v"].swapaxes(0, 1), 5).swapaxes(0, 1))  # its input channels differ: what equalization is for
    network = Network.of(build(nodes, stored))
    errors = []
    for one in (network, equalized(network)):
        want, got = (run(model.SerializeToString(), {"x": samples})[0] for model in (network.to_model(), quantize_weights(one, 4, "m").model))
        errors.append(float(((want - got) ** 2).mean()))
    assert errors[1] < errors[0]


@pytest.mark.parametrize(
    ("how", "noises", "expected"), [("auto", (2.0, 1.0), True), ("auto", (1.0, 2.0), False), ("yes", (), True), ("no", (), False)]
)
def test_it_is_done_where_it_measures_better(
    build: Build, weight: Any, dataset: Any, monkeypatch: pytest.MonkeyPatch, how: str, noises: tuple[float, ...], expected: bool
) -> None:
    answers = iter(noises)
    monkeypatch.setattr(engine, "_trial", lambda *_: next(answers))
    nodes, stored = _chain(weight, "relu")
    done = engine.quantize(build(nodes, stored), dataset, QuantizeConfig(calibration="minmax", equalize=how))
    assert done.equalized == expected
    assert np.array_equal(done.network.constants["u"], stored["u"]) != expected
    assert next(answers, None) is None


def test_the_trial_is_of_what_comes_out(build: Build, weight: Any, dataset: Any) -> None:
    nodes, stored = _chain(weight, "relu")
    networks = [prepare(build(nodes, values), "m") for values in (stored, {**stored, "v": weight(8, 8, 3, 3)})]
    samples = draw_samples(dataset, 32, 0)
    config = QuantizeConfig(3, calibration="minmax", rounding="nearest")
    for network in networks:
        done = engine.quantize(network.to_model(), dataset, QuantizeConfig(3, calibration="minmax", rounding="nearest", equalize="no", samples=32))
        x = samples(0, 32)
        want, got = (run(model.SerializeToString(), {"x": x})[0] for model in (network.to_model(), done.model))
        noise = float(((want - got) ** 2).sum() / (want**2).sum())
        with Child() as child:
            assert engine._trial(network, make_plan(network), config, samples, 1, child) == pytest.approx(noise, rel=1e-3)


@pytest.mark.parametrize("how", ["auto", "yes"])
def test_without_data_it_is_done_on_demand_only(build: Build, weight: Any, how: str) -> None:
    done = engine.quantize(build(*_chain(weight, "relu")), None, QuantizeConfig(4, equalize=how))
    assert done.equalized == (how == "yes")
