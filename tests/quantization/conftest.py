"""Small networks in ONNX, made node by node, and what ONNX Runtime makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from compresskit.data import Dataset, Split
from compresskit.models.graph import Normalization
from compresskit.quantization.calibrate import observe
from compresskit.quantization.network import Network
from compresskit.quantization.quantized import Quantized
from compresskit.quantization.static import planned, quantize_static
from compresskit.quantization.statistics import Statistics
from compresskit.quantization.weights import Bits

Build = Callable[..., onnx.ModelProto]


@pytest.fixture(scope="session")
def build() -> Build:
    """A model of float nodes from `x` to `y` (or `outputs`), with stored arrays by name."""

    def make(
        nodes: Sequence[NodeProto],
        stored: dict[str, np.ndarray],
        *,
        shape: Sequence[int | str] = ("N", 3, 8, 8),
        outputs: Sequence[str] = ("y",),
        opset: int = 20,
        domains: Sequence[str] = (),
    ) -> onnx.ModelProto:
        tensors = [numpy_helper.from_array(value, name) for name, value in stored.items()]
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        # What comes out of other domains' operators is not inferred: it is as large as the input here.
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) if domains else onnx.ValueInfoProto(name=name) for name in outputs]
        body = helper.make_graph(list(nodes), "g", inputs, ends, tensors)
        opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
        model = helper.make_model(body, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets, ignore_unknown=True))
        inferred = onnx.shape_inference.infer_shapes(model)
        del inferred.graph.value_info[:]
        return inferred

    return make


@pytest.fixture(scope="session")
def weight() -> Callable[..., np.ndarray]:
    """Random weights that keep activations of order one, no two channels of one size."""

    def draw(*shape: int, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng((seed, *shape))
        gains = rng.uniform(0.3, 2, (shape[0], *[1] * (len(shape) - 1)))
        return (rng.standard_normal(shape) * gains * np.prod(shape[1:]) ** -0.5).astype(np.float32)

    return draw


@pytest.fixture(scope="session")
def residual(build: Build, weight: Any) -> onnx.ModelProto:
    """A residual network: convolutions, ReLUs, a padded shortcut, a concatenation, pools and a linear layer."""
    conv = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], name="stem", **conv),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], name="first", **conv),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="second", group=2, **conv),
        helper.make_node("Add", ["c2", "r0"], ["a"], name="add"),
        helper.make_node("Relu", ["a"], ["ra"]),
        helper.make_node("Pad", ["ra", "pads"], ["p"], name="pad"),
        helper.make_node("Conv", ["ra", "w3", "b3"], ["c3"], name="third", **conv),
        helper.make_node("Relu", ["c3"], ["r3"]),
        helper.make_node("Concat", ["p", "r3"], ["cat"], name="concat", axis=1),
        helper.make_node("MaxPool", ["cat"], ["m"], name="max", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["m"], ["g"], name="average"),
        helper.make_node("Flatten", ["g"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w4", "b4"], ["y"], name="head", transB=1),
    ]
    rng = np.random.default_rng(1)
    stored = {f"b{index}": rng.standard_normal(size).astype(np.float32) / 4 for index, size in ((0, 8), (1, 8), (3, 6), (4, 5))}
    stored |= {"w0": weight(8, 3, 3, 3), "w1": weight(8, 8, 3, 3), "w2": weight(8, 4, 3, 3), "w3": weight(6, 8, 3, 3), "w4": weight(5, 16)}
    stored["pads"] = np.array([0, 1, 0, 0, 0, 1, 0, 0], np.int64)
    return build(nodes, stored)


@pytest.fixture(scope="session")
def samples() -> np.ndarray:
    """(64, 3, 8, 8) inputs."""
    return np.random.default_rng(7).standard_normal((64, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="session")
def dataset(samples: np.ndarray) -> Dataset:
    """Images in which neighbours are alike, as in real ones, with labels of five classes."""
    smooth = (samples + np.roll(samples, 1, 2) + np.roll(samples, 1, 3)).astype(np.float32)
    split = Split(smooth, np.arange(len(samples)) % 5)
    return Dataset(split, split, None, Normalization((0.0,), (1.0,)), "", 5)


@pytest.fixture(scope="session")
def static(samples: np.ndarray) -> Callable[..., Quantized]:
    """Static quantization of a model, calibrated on `samples` or on others; a model is watched once."""
    seen: dict[bytes, dict[str, Statistics]] = {}

    def quantize(model: onnx.ModelProto, *, weights: Bits = 8, activations: int = 8, method: str = "minmax", x: np.ndarray = samples) -> Quantized:
        network = Network.of(model)
        plan = planned(network, "m.onnx")
        key = model.SerializeToString() + x.tobytes()
        if key not in seen:
            seen[key] = observe(network, plan.tensors, lambda start, stop: x[start:stop], len(x))
        statistics = seen[key]
        return quantize_static(network, plan, statistics, weights=weights, activations=activations, method=method)

    return quantize


@pytest.fixture
def fused(tmp_path: Path) -> Callable[[onnx.ModelProto], Counter[str]]:
    """How often each operator is in what ONNX Runtime runs."""

    def count(model: onnx.ModelProto) -> Counter[str]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)

    return count
