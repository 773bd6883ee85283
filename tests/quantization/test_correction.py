"""Bias correction: what a layer puts out on average is what it put out in float."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from compresskit.models.sessions import run
from compresskit.quantization import static as static_quantization
from compresskit.quantization.correction import corrected_biases
from compresskit.quantization.layers import find_layers
from compresskit.quantization.network import Network
from compresskit.quantization.statistics import Statistics
from compresskit.quantization.weights import weight_grids

Build = Callable[..., onnx.ModelProto]


def _watched(*batches: np.ndarray) -> dict[str, Statistics]:
    statistics = Statistics("x")
    for batch in batches:
        statistics.update(batch)
    return {"x": statistics}


@pytest.mark.parametrize("layer", ["plain", "grouped", "depthwise", "gemm", "gemm transposed"])
def test_the_average_is_kept(build: Build, weight: Any, layer: str) -> None:
    # Images of one colour: every tap of a kernel sees the mean of its channel.
    x = np.random.default_rng(0).uniform(0, 2, (40, 4, 1, 1)).astype(np.float32) * np.arange(1, 5, dtype=np.float32).reshape(4, 1, 1)
    groups = {"plain": 1, "grouped": 2, "depthwise": 4}.get(layer)
    if groups is None:
        transposed = int(layer.endswith("transposed"))
        x, w = x[:, :, 0, 0], weight(8, 4) if transposed else weight(8, 4).T.copy()
        node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=transposed)
    else:
        x = np.broadcast_to(x, (40, 4, 5, 5)).copy()
        w, node = weight(8, 4 // groups, 2, 2), helper.make_node("Conv", ["x", "w", "b"], ["y"], group=groups)
    model = build([node], {"w": w, "b": np.ones(8, np.float32)}, shape=("N", *x.shape[1:]))
    network = Network.of(model)
    layers = find_layers(network)
    grids = weight_grids(network, layers, 3)
    rounded = network.edited(network.nodes, {"w": grids["w"].round_trip(w)})
    corrected = rounded.edited(rounded.nodes, corrected_biases(network, layers, grids, _watched(x[:10], x[10:])))
    axes = (0, *range(2, x.ndim))
    want, plain, got = (run(one.to_model().SerializeToString(), {"x": x})[0].mean(axis=axes) for one in (network, rounded, corrected))
    np.testing.assert_allclose(got, want, atol=1e-4)
    assert np.abs(plain - want).max() > 0.01


def test_a_bias_of_two_layers_stays(build: Build, weight: Any) -> None:
    nodes = [helper.make_node("Conv", ["x", name, "b"], [out]) for name, out in (("v", "y"), ("w", "z"))]
    network = Network.of(build(nodes, {"v": weight(4, 3, 1, 1), "w": weight(4, 3, 1, 1, seed=1), "b": np.ones(4, np.float32)}, outputs=("y", "z")))
    layers = find_layers(network)
    assert corrected_biases(network, layers, weight_grids(network, layers, 3), _watched(np.ones((2, 3, 8, 8), np.float32))) == {}


def test_few_bits_come_nearer_to_the_float_model(
    residual: onnx.ModelProto, static: Any, samples: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = run(residual.SerializeToString(), {"x": samples})[0]
    errors = []
    for off in (False, True):
        if off:
            monkeypatch.setattr(static_quantization, "corrected_biases", lambda *_: {})
        got = run(static(residual, weights=3).model.SerializeToString(), {"x": samples})[0]
        errors.append(float(((got - want) ** 2).mean()))
    assert errors[0] < 0.7 * errors[1]


def test_means_by_channel_do_not_depend_on_the_batches() -> None:
    x = np.random.default_rng(0).standard_normal((30, 3, 4, 2)).astype(np.float32)
    whole, parts = _watched(x)["x"].channel_means, _watched(x[:7], x[7:])["x"].channel_means
    assert whole is not None
    assert parts is not None
    np.testing.assert_allclose(whole, x.mean(axis=(0, 2, 3)), atol=1e-6)
    np.testing.assert_allclose(parts, whole, atol=1e-6)


@pytest.mark.parametrize("shapes", [((4,), (4,)), ((2, 3), (2, 4)), ((2, 3), (2, 4), (2, 4))])
def test_without_channels_there_are_no_means(shapes: tuple[tuple[int, ...], ...]) -> None:
    assert _watched(*(np.ones(shape, np.float32) for shape in shapes))["x"].channel_means is None
