"""A session in a child process: its answers, and what happens when the model is bad, crashes or hangs."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from compresskit.errors import InputError
from compresskit.models import isolated
from compresskit.models.isolated import Child, IsolatedSession
from compresskit.models.sessions import run


@pytest.fixture
def model() -> bytes:
    """Multiplies rows of four by a matrix."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", size)) for name, size in (("x", 4), ("y", 5))]
    weight = numpy_helper.from_array(np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weight])
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


@pytest.fixture
def samples() -> np.ndarray:
    """(9, 4) inputs."""
    return np.random.default_rng(1).standard_normal((9, 4)).astype(np.float32)


def test_it_runs_as_a_session_here_does(model: bytes, samples: np.ndarray) -> None:
    with IsolatedSession(model) as session:
        for part in (samples[:1], samples[1:9]):
            assert np.array_equal(session.run({"x": part})[0], run(model, {"x": part})[0])


def test_a_wrong_feed_is_one_line_and_the_session_goes_on(model: bytes, samples: np.ndarray) -> None:
    with IsolatedSession(model) as session:
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
    with pytest.raises(InputError, match=message), Child(timeout=0.5 if "sleep" in start else 60) as child, IsolatedSession(b"", child=child):
        pass


def test_the_child_ends_with_the_block(model: bytes) -> None:
    with IsolatedSession(model) as session:
        process: Any = session._child._process
        assert process.poll() is None
    assert process.poll() is not None


def test_sessions_share_a_child_and_leave_it_one_by_one(model: bytes, samples: np.ndarray) -> None:
    with Child() as child:
        with IsolatedSession(model, child=child) as first:
            with IsolatedSession(model, child=child) as second:
                assert np.array_equal(first.run({"x": samples})[0], second.run({"x": samples})[0])
            with pytest.raises(InputError, match="the model ended"):
                second.run({"x": samples})
            assert first.run({"x": samples})[0].shape == (9, 5)
        assert child.alive
    assert not child.alive


def test_a_child_that_crashed_starts_again_for_the_next_session(model: bytes, samples: np.ndarray) -> None:
    with Child() as child:
        with IsolatedSession(model, child=child) as session:
            process: Any = child._process
            process.kill()
            process.wait()
            with pytest.raises(InputError, match="the model ended"):
                session.run({"x": samples})
        with IsolatedSession(model, child=child) as session:
            assert session.run({"x": samples})[0].shape == (9, 5)


def test_the_child_loads_nothing_of_torch() -> None:
    script = "import sys, compresskit.models.session_child, compresskit.models.sessions; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
