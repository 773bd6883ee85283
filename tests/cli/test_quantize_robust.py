"""`compresskit quantize` with --robust, --sweep, --size and --bit-ops, up to the library and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compresskit.errors import GuardError
from compresskit.progress import SILENT, Progress
from compresskit.quantization.robust.config import RobustConfig
from compresskit.quantization.robust.report import RobustOutcome, RobustReport, Trial
from compresskit.quantization.sweep import SweepOutcome, SweepReport, SweepRow
from compresskit.report import Accuracy, ModelInfo, Output

Invoke = Callable[..., Any]


@dataclasses.dataclass
class Pipeline:
    """Stands in for the library."""

    outcome: Any
    asked: Any = None

    def __call__(self, request: Any, progress: Progress = SILENT) -> Any:
        self.asked = request
        return self.outcome


@pytest.fixture
def robust(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    trials = (Trial(0.0, 0.992, 2.4, 2.8, True, 0.04), Trial(0.01, 0.991, 2.4, 1.1, True, 0.08), Trial(0.04, None, 2.4, 2.4, False, 0.0))
    report = RobustReport(
        command="quantize",
        arguments=(),
        seed=7,
        threads=1,
        settings={"method": "l1"},
        device="cpu",
        model=ModelInfo("net.pt", None, ()),
        strength=0.01,
        trials=trials,
        before=Accuracy(0.99, 0.98, 1.0, 500),
        after=Accuracy(0.988, 0.975, 0.999, 500),
        outputs=(Output("r.pt", "pt", 9),),
    )
    stand_in = Pipeline(RobustOutcome(report))
    monkeypatch.setattr("compresskit.quantization.robust.pipeline.run", stand_in)
    return stand_in


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    accuracy = Accuracy(0.99, 0.98, 1.0, 500)
    rows = (SweepRow(8, 8, accuracy, 100_000, None), SweepRow(4, 8, Accuracy(0.95, 0.93, 0.97, 500), 60_000, None))
    report = SweepReport(
        command="quantize",
        arguments=(),
        seed=7,
        threads=1,
        settings={},
        device="cpu",
        model=ModelInfo("net.pt", None, ()),
        accuracy=accuracy,
        bytes=300_000,
        rows=rows,
    )
    stand_in = Pipeline(SweepOutcome(report))
    monkeypatch.setattr("compresskit.quantization.sweep.run", stand_in)
    return stand_in


def test_robust_in_one_line(invoke: Invoke, robust: Pipeline) -> None:
    done = invoke("quantize", "net.pt", "--robust", "--data", "d.npz")
    assert done.code == 0
    assert robust.asked.outputs == ("net.robust.pt",)
    assert (robust.asked.config.method, robust.asked.config.strength, robust.asked.data) == ("l1", None, "d.npz")
    assert robust.asked.config.batch_size == RobustConfig.batch_size
    assert "0.01 *" in done.out
    assert "diverged" in done.out
    assert "-0.20 pt" in done.out


def test_robust_with_everything_said(invoke: Invoke, robust: Pipeline) -> None:
    options = "--robust-method dq --strength 0.5 --epochs 3 --lr 0.001 --batch-size 16 --optimizer sgd --checkpoint s --max-drop 0.01 --seed 5"
    done = invoke("quantize", "net.onnx", "--robust", "--data", "d.npz", "-o", "a.onnx", "-o", "b.safetensors", *options.split())
    config = robust.asked.config
    assert done.code == 0
    assert (config.method, config.strength, config.epochs, config.learning_rate, config.batch_size) == ("dq", 0.5, 3, 0.001, 16)
    assert (config.optimizer, config.max_drop, config.seed) == ("sgd", 0.01, 5)
    assert (robust.asked.outputs, robust.asked.checkpoint) == (("a.onnx", "b.safetensors"), "s")


def test_a_guard_that_failed_is_said_after_the_report(invoke: Invoke, robust: Pipeline) -> None:
    robust.outcome = dataclasses.replace(robust.outcome, failure=GuardError("accuracy fell"))
    done = invoke("quantize", "net.pt", "--robust", "--data", "d.npz", "--json")
    assert done.code == 5
    assert '"strength": 0.01' in done.out
    assert "accuracy fell" in done.err


def test_a_sweep_in_one_line(invoke: Invoke, sweep: Pipeline) -> None:
    done = invoke("quantize", "net.pt", "--sweep", "8,4:8", "--data", "d.npz", "--samples", "64")
    assert done.code == 0
    assert [(one.weights, one.activations, one.samples) for one in sweep.asked.configs] == [(8, 8, 64), (4, 8, 64)]
    assert sweep.asked.outputs == ()
    assert "W4A8" in done.out
    assert "-4.00 pt" in done.out
    assert "20.0%" in done.out


@pytest.mark.parametrize(("name", "magic"), [("s.png", b"\x89PNG"), ("s.svg", b"<?xml")])
def test_a_sweep_is_drawn(invoke: Invoke, sweep: Pipeline, name: str, magic: bytes) -> None:
    assert invoke("quantize", "net.pt", "--sweep", "8,4:8", "--data", "d.npz", "--plot", name).code == 0
    assert Path(name).read_bytes().startswith(magic)
    again = invoke("quantize", "net.pt", "--sweep", "8,4:8", "--data", "d.npz", "--plot", name)
    assert again.code == 2
    assert "--force" in again.err


WRONG = {
    "--robust": "give --data",
    "--robust --data d.npz --weights 4": "--weights has no say in --robust",
    "--robust --data d.npz --sweep 8,4": "--sweep has no say in --robust",
    "--robust --data d.npz --size 0.2": "--size has no say in --robust",
    "--robust --data d.npz --method lsq": "--method has no say in --robust",
    "--robust --data d.npz --strength 0": "--strength takes a number above 0",
    "--robust --data d.npz --robust-method none --strength 1": "that of a penalty",
    "--robust --data d.npz --epochs 0": "--epochs takes a number above 0",
    "--robust --data d.npz -o r.png": "cannot write r.png",
    "--robust --data d.npz --resume": "--resume goes with --checkpoint",
    "--robust-method l2": "--robust-method goes with --robust",
    "--strength 0.1": "--strength goes with --robust",
    "--sweep 8,4": "give --data",
    "--sweep 8,x --data d.npz": "expected bits between commas",
    "--sweep 8,8 --data d.npz": "is there twice",
    "--sweep 8,1 --data d.npz": "2 to 16 bits, not 1",
    "--sweep 8 --weights 4 --data d.npz": "--weights has no say in --sweep",
    "--sweep 8 --size 0.2 --data d.npz": "--size has no say in --sweep",
    "--sweep 8 --epochs 2 --data d.npz": "--epochs has no say in --sweep",
    "--sweep 8 --data d.npz -o m.onnx": "give --max-drop with -o",
    "--sweep 8 --data d.npz --max-drop 0.1 -o m.pt": "written as .onnx",
    "--sweep 8 --data d.npz --plot s.bmp": "cannot draw s.bmp",
    "--plot s.png": "--plot goes with --sweep",
    "--size 0.2": "--size learns widths: give --data",
    "--bit-ops 0.05": "--bit-ops learns widths: give --data",
    "--size 0.2 --bit-ops 0.05 --data d.npz": "contradict each other",
    "--size 0 --data d.npz": "between 0 and 1",
    "--size 1.5 --data d.npz": "between 0 and 1",
    "--size 0.2 --weights 4 --data d.npz": "--weights has no say in --size",
}


@pytest.mark.parametrize("options", WRONG)
def test_what_is_refused_before_any_work(invoke: Invoke, robust: Pipeline, sweep: Pipeline, options: str) -> None:
    done = invoke("quantize", "net.onnx", *options.split())
    assert done.code == 2
    assert WRONG[options] in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert robust.asked is None
    assert sweep.asked is None


def test_learned_widths_are_asked_for(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Pipeline(None)

    def run(request: Any, progress: Progress) -> Any:
        asked(request, progress)
        raise GuardError("far enough")

    monkeypatch.setattr("compresskit.quantization.pipeline.run", run)
    assert invoke("quantize", "net.pt", "--size", "0.15", "--data", "d.npz", "--epochs", "2").code == 5
    assert (asked.asked.config.target, asked.asked.config.epochs) == (("size", 0.15), 2)
    assert asked.asked.outputs == ("net.mixed.onnx",)
    assert invoke("quantize", "net.pt", "--bit-ops", "0.05", "--data", "d.npz", "--activations", "4").code == 5
    assert (asked.asked.config.target, asked.asked.config.activations) == (("bit-ops", 0.05), 4)
