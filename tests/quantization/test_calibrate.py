"""Watching a network: every sample is seen once, whatever the batch."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from compresskit.quantization.calibrate import observe
from compresskit.quantization.network import Network
from compresskit.quantization.statistics import Statistics


@pytest.mark.parametrize("batch", [None, 5])
def test_calibration_sees_every_sample_whatever_the_batch(residual: onnx.ModelProto, samples: np.ndarray, batch: int | None) -> None:
    network = Network.of(residual)
    seen = observe(network, ["x", "r0"], lambda start, stop: samples[start:stop], 35, batch=batch)
    whole = Statistics("x")
    whole.update(samples[:35])
    assert (seen["x"].minimum, seen["x"].maximum, seen["x"].total) == (whole.minimum, whole.maximum, whole.total)
    assert seen["r0"].minimum == 0 < seen["r0"].maximum
