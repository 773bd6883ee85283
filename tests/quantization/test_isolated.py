"""A session in a child process: its answers, and what happens when the model is bad, crashes or hangs."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import onnx
import pytest

from compresskit.errors import InputError
from compresskit.models.sessions import run
from compresskit.quantization import isolated
from compresskit.quantization.calibrate import observe
from compresskit.quantization.isolated import IsolatedSession
from compresskit.quantization.network import Network
from compresskit.quantization.statistics import Statistics


def test_it_runs_as_a_session_here_does(residual: onnx.ModelProto, samples: np.ndarray) -> None:
    model = residual.SerializeToString()
    with IsolatedSession(model) as session:
        for part in (samples[:1], samples[1:9]):
            assert np.array_equal(session.run({"x": part})[0], run(model, {"x": part})[0])


def test_a_wrong_feed_is_one_line_and_the_session_goes_on(residual: onnx.ModelProto, samples: np.ndarray) -> None:
    with IsolatedSession(residual.SerializeToString()) as session:
        with pytest.raises(InputError, match=r"^ONNX Runtime cannot run the model: .+$"):
            session.run({"x": samples[:, :2]})
        assert session.run({"x": samples[:1]})[0].shape == (1, 5)


def test_bytes_that_are_no_model_are_refused() -> None:
    with pytest.raises(InputError, match="ONNX Runtime cannot run the model"), IsolatedSession(b"no model"):
        pass


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("import os; os.abort()", r"ONNX Runtime crashed on the model \(signal 6\)"),
        ("import sys; sys.exit(3)", r"ONNX Runtime crashed on the model \(exit 3\)"),
        ("import time; time.sleep(60)", "ONNX Runtime did not finish the model within 0.5 s"),
    ],
)
def test_a_child_that_fails_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch, start: str, message: str) -> None:
    monkeypatch.setattr(isolated, "_START", start)
    with pytest.raises(InputError, match=message), IsolatedSession(b"", timeout=0.5 if "sleep" in start else 60):
        pass


def test_the_child_ends_with_the_block(residual: onnx.ModelProto) -> None:
    with IsolatedSession(residual.SerializeToString()) as session:
        child: Any = session._child
        assert child.poll() is None
    assert child.poll() is not None


def test_the_child_loads_nothing_of_torch() -> None:
    script = "import sys, compresskit.quantization.session_child, compresskit.models.sessions; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("batch", [None, 5])
def test_calibration_sees_every_sample_whatever_the_batch(residual: onnx.ModelProto, samples: np.ndarray, batch: int | None) -> None:
    network = Network.of(residual)
    seen = observe(network, ["x", "r0"], lambda start, stop: samples[start:stop], 35, batch=batch)
    whole = Statistics("x")
    whole.update(samples[:35])
    assert (seen["x"].minimum, seen["x"].maximum, seen["x"].total) == (whole.minimum, whole.maximum, whole.total)
    assert seen["r0"].minimum == 0 < seen["r0"].maximum
