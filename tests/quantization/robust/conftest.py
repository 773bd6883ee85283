"""A small network that can be differentiated twice, in float32 as it is trained."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import Tensor

from compresskit.quantization.plan import make_plan
from compresskit.quantization.prepare import prepare
from compresskit.quantization.robust.watch import Watched


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None: ...


@pytest.fixture
def watched(residual: onnx.ModelProto) -> Watched:
    """A residual network of five classes."""
    network = prepare(residual, "m")
    return Watched(network, make_plan(network))


@pytest.fixture
def smooth(build: Callable[..., onnx.ModelProto], weight: Callable[..., np.ndarray]) -> Watched:
    """A network without kinks, where finite differences are near what they stand for: two convolutions, two sigmoids, a pool, five classes."""
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c0"], ["s0"]),
        helper.make_node("Conv", ["s0", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c1"], ["s1"]),
        helper.make_node("GlobalAveragePool", ["s1"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"], axis=1),
        helper.make_node("Gemm", ["f", "w2"], ["y"], transB=1),
    ]
    model = build(nodes, {"w0": weight(8, 3, 3, 3), "w1": weight(8, 8, 3, 3), "w2": 4 * weight(5, 8)})
    network = prepare(model, "m")
    return Watched(network, make_plan(network))


@pytest.fixture(scope="session")
def batch() -> tuple[Tensor, Tensor]:
    """(16, 3, 8, 8) inputs and their classes."""
    rng = torch.Generator().manual_seed(3)
    return torch.randn(16, 3, 8, 8, generator=rng), torch.randint(0, 5, (16,), generator=rng)
