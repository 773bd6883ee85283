"""The whole program as a user runs it, on the sample that comes along."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from compresskit.report import Report

SAMPLE = Path(__file__).parents[2] / "sample_data"
PRUNE = [sys.executable, "-m", "compresskit.cli", "prune"]


def test_from_a_checkpoint_to_a_file_and_through_a_pipe(tmp_path: Path) -> None:
    once = tmp_path / "once.onnx"
    first = subprocess.run(
        [*PRUNE, SAMPLE / "digits_resnet.pt", "--flops", "0.5", "--seed", "1", "-o", once, "--json"], capture_output=True, text=True
    )
    warning, *_ = first.stderr.splitlines()  # others may follow, about the time that it takes here
    assert (first.returncode, warning) == (0, "compresskit: warning: accuracy was not measured and nothing was trained: give --data")
    report = Report.from_json(first.stdout)
    assert abs(report.after.macs / report.before.macs - 0.5) <= 0.01
    assert [(output.path, output.bytes) for output in report.outputs] == [(str(once), once.stat().st_size)]

    second = subprocess.run([*PRUNE, "-", "--flops", "0.5", "-o", "-", "-q"], input=once.read_bytes(), capture_output=True)
    assert (second.returncode, second.stderr) == (0, b"")
    onnx.checker.check_model(onnx.load_from_string(second.stdout), full_check=True)
    assert len(second.stdout) < once.stat().st_size


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_mid_training_leaves_no_output(tmp_path: Path, number: int, code: int) -> None:
    process = subprocess.Popen(
        [*PRUNE, SAMPLE / "digits_resnet.pt", "--flops", "0.5", "--data", SAMPLE / "digits.npz", "--epochs", "1000", "-v", "-o", "small.onnx"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert any("train" in line for line in process.stderr), "training never began"
    process.send_signal(number)
    out, error = process.communicate(timeout=20)
    assert (process.returncode, out, error.count("\n")) == (code, "", 1)
    assert list(tmp_path.iterdir()) == []
