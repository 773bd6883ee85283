"""`metaprune` from file to files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest

from compresskit.errors import InputError, TargetError, UsageError
from compresskit.metaprune.config import MetapruneConfig, MetapruneRequest
from compresskit.metaprune.network import Metanetwork, save
from compresskit.metaprune.pipeline import run
from compresskit.metaprune.reports import MetapruneReport
from compresskit.pruning.config import PruneConfig, Target

SAMPLE = Path(__file__).parents[2] / "sample_data"
CONFIG = PruneConfig(target=Target("flops", 0.35), criterion="l2", scope="global", epochs=0.5)


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None: ...


@pytest.fixture
def request_(tmp_path: Path, metanetwork: Metanetwork) -> MetapruneRequest:
    (tmp_path / "meta.safetensors").write_bytes(save(metanetwork))
    return MetapruneRequest(
        str(SAMPLE / "digits_resnet.pt"),
        config=CONFIG,
        meta=MetapruneConfig(epochs=0.5),
        metanetwork=str(tmp_path / "meta.safetensors"),
        data=str(SAMPLE / "digits.npz"),
        outputs=(str(tmp_path / "small.onnx"),),
        device="cpu",
        threads=1,
        checkpoint=str(tmp_path / "state"),
    )


def test_a_network_is_rewritten_cut_and_written(request_: MetapruneRequest, tmp_path: Path) -> None:
    outcome = run(request_)
    report = outcome.report
    assert outcome.failure is None
    assert report.command == "metaprune"
    assert report.after.macs == report.steps[-1].macs == pytest.approx(0.35 * report.before.macs, rel=0.01)
    assert report.metanetwork == request_.metanetwork
    assert report.settings["meta"]["epochs"] == 0.5
    assert MetapruneReport.from_json(report.to_json()) == replace(report, settings=json.loads(json.dumps(report.settings)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["meta.safetensors", "small.onnx"]  # no state is left
    session = onnxruntime.InferenceSession(str(tmp_path / "small.onnx"), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1:] == [1, 8, 8]


def test_a_dry_run_trains_and_writes_nothing(request_: MetapruneRequest, tmp_path: Path) -> None:
    report = run(replace(request_, dry_run=True)).report
    assert [stage.epochs for stage in report.steps] == [0, 0, 0]
    assert not (tmp_path / "small.onnx").exists()


def test_a_target_out_of_reach_is_written_and_said(request_: MetapruneRequest) -> None:
    config = replace(CONFIG, floor=0.9, epochs=0)
    outcome = run(replace(request_, config=config, meta=MetapruneConfig(epochs=0)))
    assert isinstance(outcome.failure, TargetError)
    assert outcome.report.outputs


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"data": None}, UsageError, "has to be trained: give --data"),
        ({"metanetwork": "absent.safetensors"}, InputError, "absent.safetensors: cannot be read"),
        ({"metanetwork": str(SAMPLE / "digits.npz")}, InputError, "is no whole safetensors file"),
    ],
)
def test_bad_input_is_refused(request_: MetapruneRequest, changes: dict[str, str | None], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run(replace(request_, **changes))  # type: ignore[arg-type]
