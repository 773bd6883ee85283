from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from compresskit.errors import InputError
from compresskit.models import latency
from compresskit.models.latency import compare, measure, preferred_multiple

FEEDS = {"x": np.ones((4, 3), dtype=np.float32)}


def model(kind: str) -> bytes:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node(kind, ["x"], ["y"])], "g", [x], [y])
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString()


@pytest.mark.parametrize("isolated", [False, True])
def test_measure(isolated: bool) -> None:
    taken = measure(model("Relu"), FEEDS, threads=1, seconds=0, isolated=isolated)
    assert 0 < taken.p50_ms <= taken.p90_ms
    assert (taken.runs, taken.threads, taken.batch) == (5, 1, 4)


def test_models_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bytes] = []

    class Session:
        def __init__(self, model: bytes) -> None:
            self.model = model

        def run(self, outputs: None, feeds: object) -> None:
            calls.append(self.model)

    monkeypatch.setattr(latency, "open_session", lambda model, *, threads: Session(model))
    before, after = compare(b"A", b"B", FEEDS, warmup=1, seconds=0)
    assert calls == [b"A", b"B"] + [b"A", b"A", b"B", b"B"] * 5  # the first of two runs fills the caches
    assert before.runs == after.runs == 5


def test_percentiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "time_runs", lambda models, feeds, **options: [np.arange(1, 12) / 1000])
    taken = measure(b"", FEEDS)
    assert taken.p50_ms == pytest.approx(6)
    assert taken.p90_ms == pytest.approx(10)


def test_a_bad_model_in_isolation() -> None:
    with pytest.raises(InputError, match="ONNX Runtime"):
        measure(b"junk", FEEDS, isolated=True)


@pytest.mark.parametrize("block", [1, 4, 8, 16, 32])
def test_preferred_multiple_finds_the_block_of_a_made_up_runtime(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that rounds channels up to `block` and has a constant overhead of a twentieth."""
    widths = [61, 60, 56, 48, 64]
    times = [np.array([1.5, 1.0]) * ((-(-width // block) * block) ** 2 + 64**2 / 20) for width in widths]
    monkeypatch.setattr(latency, "time_runs", lambda *args, **options: times)
    assert preferred_multiple() == block


def test_preferred_multiple_of_the_real_runtime() -> None:
    assert preferred_multiple(seconds=0.01) in (1, 4, 8, 16, 32)
