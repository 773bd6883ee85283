"""Networks in torch against ONNX Runtime: in float, and rounded where the emitted model is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn

from compresskit.errors import InputError
from compresskit.models.sessions import run
from compresskit.quantization.network import Network
from compresskit.quantization.plan import make_plan
from compresskit.quantization.qat.network import TrainableNetwork, trainable
from compresskit.quantization.quantized import Quantized
from compresskit.quantization.quantizers import FakeQuant

Static = Callable[..., Quantized]


def simulated(done: Quantized) -> TrainableNetwork:
    """A quantized network as training sees it, its biases corrected like those of the emitted model."""
    assert done.plan is not None
    weights = {name: FakeQuant(grid) for name, grid in done.weights.items()}
    activations = {members[0]: FakeQuant(done.activations[members[0]]) for members in done.plan.sets}
    return trainable(done.network, done.plan, weights, activations)


@pytest.mark.parametrize("batch", [1, 5])
def test_the_float_network_is_the_onnx_model(residual: onnx.ModelProto, static: Static, samples: np.ndarray, batch: int) -> None:
    done = static(residual)
    assert done.plan is not None
    module = trainable(done.network, done.plan)
    want = run(residual.SerializeToString(), {"x": samples[:batch]})[0]
    assert np.allclose(module(torch.from_numpy(samples[:batch])).detach().numpy(), want, atol=1e-5)
    assert {name for layer in done.layers for name in (layer.weight, layer.bias) if name} == {f"w{i}" for i in range(5)} | {"b0", "b1", "b3", "b4"}
    assert sum(parameter.numel() for parameter in module.parameters()) == sum(value.size for value in done.network.constants.values()) - 8


@pytest.mark.parametrize(("weights", "activations"), [(8, 8), (4, 8), (4, 4), (3, 3), (2, 2)])
def test_the_simulation_is_the_emitted_model(
    residual: onnx.ModelProto, static: Static, samples: np.ndarray, weights: int, activations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compresskit.quantization.static.corrected_biases", lambda *_: {})
    done = static(residual, weights=weights, activations=activations)
    want = run(done.model.SerializeToString(), {"x": samples})[0]
    found = simulated(done)(torch.from_numpy(samples)).detach().numpy()
    step = float(done.activations["f"].scale) * np.abs(done.network.constants["w4"]).sum(1)
    assert np.mean(np.abs(found - want) < 1e-3 * step) > 0.99
    assert np.all(np.abs(found - want) <= step)


def test_float_readers_of_a_float_see_the_float(build: Any, weight: Any, static: Static, samples: np.ndarray) -> None:
    nodes = [
        helper.make_node("Tanh", ["x"], ["t"]),
        helper.make_node("Conv", ["t", "w"], ["c"]),
        helper.make_node("Softplus", ["t"], ["s"]),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("GlobalAveragePool", ["s"], ["h"]),
        helper.make_node("Concat", ["g", "h"], ["y"], axis=1),
    ]
    done = static(build(nodes, {"w": weight(4, 3, 3, 3)}), activations=2)
    want = run(done.model.SerializeToString(), {"x": samples})[0]
    found = simulated(done)(torch.from_numpy(samples)).detach().numpy()
    assert np.allclose(found[:, 3:], want[:, 3:], atol=1e-5)
    assert np.mean(np.abs(found - want) < 1e-4) > 0.95


def test_shared_weights_are_one_parameter_and_matrices_may_lie_either_way(build: Any, weight: Any, static: Static) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Gemm", ["h", "w", "b"], ["i"]),
        helper.make_node("Gemm", ["i", "v"], ["y"], transB=1),
    ]
    stored = {"w": weight(6, 6), "v": weight(3, 6, seed=1), "b": weight(6, 1)[:, 0]}
    x = np.random.default_rng(0).standard_normal((9, 6)).astype(np.float32)
    done = static(build(nodes, stored, shape=("N", 6)), x=x)
    assert done.plan is not None
    module = trainable(done.network, done.plan)
    assert np.allclose(module(torch.from_numpy(x)).detach().numpy(), (x @ stored["w"] @ stored["w"] + stored["b"]) @ stored["v"].T, atol=1e-5)
    assert len(list(module.parameters())) == 3
    assert torch.equal(module.parameter("w"), torch.from_numpy(stored["w"]))


def test_a_constant_that_is_added_is_not_merged_across_a_rounded_tensor(build: Any, weight: Any, static: Static, samples: np.ndarray) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Add", ["c", "b"], ["a"]),
        helper.make_node("Conv", ["a", "v"], ["y"]),
    ]
    done = static(build(nodes, {"w": weight(4, 3, 3, 3), "b": weight(4, 1, 1), "v": weight(2, 4, 1, 1)}), activations=2)
    seen: list[str] = []

    class Watch(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(self.name)
            return x

    assert done.plan is not None
    trainable(done.network, done.plan, activations={name: Watch(name) for name in done.plan.tensors})(torch.from_numpy(samples))
    assert sorted(seen) == sorted(done.plan.tensors)


def test_a_batch_that_the_file_fixes_is_freed(build: Any, weight: Any, static: Static) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Reshape", ["c", "to"], ["f"]),
        helper.make_node("Gemm", ["f", "v"], ["y"]),
    ]
    model = build(nodes, {"w": weight(4, 3, 3, 3), "to": np.array([1, 144]), "v": weight(144, 2)}, shape=(1, 3, 8, 8))
    x = np.random.default_rng(0).standard_normal((5, 3, 8, 8)).astype(np.float32)
    done = static(model, x=x[:1])
    assert done.plan is not None
    found = trainable(done.network, done.plan)(torch.from_numpy(x)).detach().numpy()
    want = np.concatenate([run(model.SerializeToString(), {"x": one[None]})[0] for one in x])
    assert np.allclose(found, want, atol=1e-5)


def test_a_batch_that_cannot_be_freed_is_refused(build: Any, weight: Any) -> None:
    """Samples of one batch see each other here."""
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"]),
        helper.make_node("Softmax", ["h"], ["s"], axis=0),
        helper.make_node("Gemm", ["s", "v"], ["y"]),
    ]
    network = Network.of(build(nodes, {"w": weight(6, 6), "v": weight(6, 2)}, shape=(2, 6)))
    with pytest.raises(InputError, match=r"m\.onnx fixes its batch at 2, and cannot be trained at another"):
        trainable(network, make_plan(network), source="m.onnx")
