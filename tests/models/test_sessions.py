from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper

from compresskit.errors import InputError
from compresskit.models import sessions
from compresskit.models.ort_child import pack, unpack
from compresskit.models.sessions import run, run_isolated

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def model(kind: str = "Relu", **attributes: object) -> bytes:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node(kind, ["x"], ["y"], **attributes)], "g", [x], [y])
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString()


def test_in_process_and_isolated_agree() -> None:
    inside, isolated = run(model("Softmax"), {"x": X}), run_isolated(model("Softmax"), {"x": X})
    assert np.array_equal(inside[0], isolated[0])


@pytest.mark.parametrize("damaged", [b"", b"\x00" * 64, model()[:-7], model("NoSuchOperator")])
def test_a_model_that_the_runtime_refuses_is_one_line(damaged: bytes) -> None:
    with pytest.raises(InputError, match="ONNX Runtime") as caught:
        run_isolated(damaged, {"x": X})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("feeds", [{}, {"z": X}, {"x": X[:, :2]}, {"x": X.astype(np.int64)}])
def test_feeds_that_do_not_fit(feeds: dict[str, np.ndarray]) -> None:
    with pytest.raises(InputError, match="ONNX Runtime cannot run the model"):
        run_isolated(model(), feeds)


def endless() -> bytes:
    """A Loop that ends after 2^62 turns."""
    turn = helper.make_tensor_value_info("turn", TensorProto.INT64, [])
    go, again = (helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("go", "again"))
    value, following = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("value", "following"))
    nodes = [helper.make_node("Identity", ["go"], ["again"]), helper.make_node("Neg", ["value"], ["following"])]
    body = helper.make_graph(nodes, "body", [turn, go, value], [again, following])
    limit = helper.make_tensor("limit", TensorProto.INT64, [], [2**62])
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("x", "y"))
    loop = helper.make_node("Loop", ["limit", "yes", "x"], ["y"], body=body)
    graph = helper.make_graph([loop], "g", [x], [y], [limit, yes])
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString()


def test_the_runtime_tells_nobody_which_models_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(onnxruntime, "disable_telemetry_events", lambda: calls.append("silenced"))
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: calls.append("opened"))
    sessions.open_session(model())
    assert calls == ["silenced", "opened"]


def test_a_model_that_never_ends_is_stopped() -> None:
    onnx.checker.check_model(onnx.load_from_string(endless()))
    with pytest.raises(InputError, match="did not finish the model within 2 s"):
        run_isolated(endless(), {"x": X}, timeout=2)


def test_a_crash_is_an_error_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_START", f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})")
    with pytest.raises(InputError, match="crashed on the model"):
        run_isolated(model(), {"x": X})


def test_a_child_that_dies_quietly_is_an_error_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_START", "raise SystemExit('out of luck')")
    with pytest.raises(InputError, match="out of luck"):
        run_isolated(model(), {"x": X})


def test_modules_in_the_working_directory_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("numpy", "onnxruntime", "json"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    run_isolated(model(), {"x": X})
    assert os.listdir(tmp_path).count("ran") == 0


arrays = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_, np.float16]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


@settings(max_examples=100)
@given(st.dictionaries(st.text(max_size=5), st.integers(), max_size=3), st.lists(arrays, max_size=12))
def test_messages_round_trip(header: dict[str, int], content: list[np.ndarray]) -> None:
    read, back = unpack(pack(header, content))
    assert read == header
    assert [array.dtype for array in back] == [array.dtype for array in content]
    assert all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(content, back, strict=True))


def test_messages_hold_no_objects() -> None:
    with pytest.raises(ValueError, match="strings or objects"):
        pack({}, [np.array(["a", None], dtype=object)])
