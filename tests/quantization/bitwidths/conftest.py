"""A network that is quantized statically, and data that it is trained on."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from compresskit.data import Dataset, Split
from compresskit.models.graph import Normalization
from compresskit.quantization.config import QuantizeConfig
from compresskit.quantization.engine import quantize
from compresskit.quantization.quantized import Quantized

CONFIG = QuantizeConfig(samples=32, rounding="nearest", epochs=3, batch_size=32, seed=1)


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None: ...


@pytest.fixture(scope="session")
def config() -> QuantizeConfig:
    return CONFIG


@pytest.fixture(scope="session")
def data() -> Dataset:
    """Five classes of 3x8x8 inputs, each brighter in other rows."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, 256)
    x = rng.standard_normal((256, 3, 8, 8)).astype(np.float32)
    x[np.arange(256), :, y] += 1.5
    return Dataset(Split(x[:192], y[:192]), Split(x[192:], y[192:]), None, Normalization((0.0,), (1.0,)), "made up", 5)


@pytest.fixture(scope="session")
def start(residual: onnx.ModelProto, data: Dataset) -> Quantized:
    return quantize(residual, data, CONFIG)
