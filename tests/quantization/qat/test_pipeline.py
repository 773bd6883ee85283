"""`quantize --method` from file to file: every kind of model, bad data, and ends in mid training."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from compresskit.errors import InputError, UsageError
from compresskit.models.load import load_model
from compresskit.models.onnx_out import export_onnx
from compresskit.quantization import pipeline
from compresskit.quantization.config import QuantizeConfig, QuantizeRequest
from compresskit.quantization.pipeline import run

SAMPLE = Path(__file__).parents[3] / "sample_data"
NET, DIGITS = str(SAMPLE / "digits_resnet.pt"), str(SAMPLE / "digits.npz")
CONFIG = QuantizeConfig(weights=4, activations=4, method="lsq", samples=32, epochs=0.2, batch_size=64, equalize="no", seed=3)


@pytest.fixture(autouse=True)
def _quick_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are taken in a tenth of the time."""
    compare = pipeline.compare
    monkeypatch.setattr(pipeline, "compare", lambda *arguments, **options: compare(*arguments, **{**options, "seconds": 0.05}))


def test_a_checkpoint_and_its_onnx_file_train_to_the_same_bits(tmp_path: Path) -> None:
    exported, target = tmp_path / "digits.onnx", tmp_path / "small.onnx"
    graph = load_model(NET)
    exported.write_bytes(export_onnx(graph).SerializeToString())
    assert graph.normalization is not None
    mean, std = graph.normalization.mean, graph.normalization.std
    report = run(QuantizeRequest(NET, CONFIG, outputs=(str(target),), data=DIGITS)).report
    other = run(QuantizeRequest(str(exported), CONFIG, outputs=("-",), data=DIGITS, mean=mean, std=std))
    assert other.standard_output == target.read_bytes()
    assert (report.scheme, report.settings["method"], report.settings["epochs"]) == ("W4A4", "lsq", 0.2)
    assert report.after.accuracy is not None
    assert report.after.accuracy.value > 0.95
    assert "train" in report.stages


def test_what_has_no_say_without_training_is_not_reported() -> None:
    report = run(QuantizeRequest(NET, dataclasses.replace(CONFIG, method="ptq", rounding="nearest"), data=DIGITS)).report
    assert not {"epochs", "optimizer", "distill", "seed"} & set(report.settings)


def test_the_first_and_the_last_layer_may_have_bits_of_their_own() -> None:
    config = dataclasses.replace(CONFIG, weights=3, activations=3, edges=8, reduce_range=False, epochs=0.05)
    rows = run(QuantizeRequest(NET, config, data=DIGITS)).report.layers
    assert [row.weight_bits for row in rows] == [8, *[3] * 8, 8]
    assert [row.activation_bits for row in rows][:2] == [3, 3]


@pytest.mark.parametrize("method", ["ste", "lsq"])
def test_training_without_data(method: str) -> None:
    with pytest.raises(UsageError, match=f"--method {method} trains: give --data"):
        run(QuantizeRequest(NET, dataclasses.replace(CONFIG, method=method)))  # type: ignore[arg-type]


@pytest.mark.parametrize(("x", "message"), [(np.full((40, 1, 8, 8), np.nan), "finite"), (np.ones((1, 1, 8, 8)), "at least two classes")])
def test_data_that_cannot_be_trained_on(tmp_path: Path, x: np.ndarray, message: str) -> None:
    np.savez(tmp_path / "d.npz", x=x.astype(np.float32), y=np.arange(len(x)) % 4)
    with pytest.raises(InputError, match=message):
        run(QuantizeRequest(NET, CONFIG, data=str(tmp_path / "d.npz")))


class Killer:
    """A progress that ends the run in one training step."""

    def __init__(self, deadly: int) -> None:
        self.left = deadly

    def stage(self, name: str, total: int | None = None) -> None: ...
    def note(self, message: str) -> None: ...

    def advance(self, steps: int = 1, **figures: float) -> None:
        self.left -= 1 if figures else 0
        if self.left < 0:
            raise KeyboardInterrupt


def test_a_state_is_continued_from_with_its_own_widths_alone_and_goes_when_the_run_is_over(tmp_path: Path) -> None:
    request = QuantizeRequest(NET, CONFIG, ("-",), data=DIGITS, checkpoint=str(tmp_path / "state"))
    with pytest.raises(KeyboardInterrupt):
        run(request, Killer(2))
    with pytest.raises(UsageError, match=r"state exists: continue from it with --resume"):
        run(request)
    with pytest.raises(UsageError, match=r"is of another run, different in model"):
        run(dataclasses.replace(request, config=dataclasses.replace(CONFIG, weights=3), resume=True))
    run(dataclasses.replace(request, resume=True))
    assert list(tmp_path.iterdir()) == []


def test_a_process_ended_in_mid_training_continues_to_the_same_bytes(tmp_path: Path) -> None:
    config, kept = dataclasses.replace(CONFIG, method="uniform", epochs=1.0), tmp_path / "state"
    line = ["quantize", NET, "--weights", "4", "--activations", "4", "--method", "uniform", "--data", DIGITS, "--epochs", "1", "--batch-size", "64"]
    line += ["--samples", "32", "--equalize", "no", "--seed", "3", "--checkpoint", str(kept), "-o", str(tmp_path / "a.onnx"), "-v"]
    process = subprocess.Popen([sys.executable, "-m", "compresskit.cli", *line], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any("train" in entry for entry in process.stderr), "training never began"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    whole = run(QuantizeRequest(NET, config, ("-",), data=DIGITS))
    resumed = run(QuantizeRequest(NET, config, ("-",), data=DIGITS, checkpoint=str(kept), resume=True))
    assert resumed.standard_output == whole.standard_output
    assert list(tmp_path.iterdir()) == []
