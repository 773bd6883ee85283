"""`metaprune --train` from files to a file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compresskit.errors import InputError, OutputError, UsageError
from compresskit.metaprune.config import MetatrainConfig, MetatrainRequest
from compresskit.metaprune.meta_pipeline import run
from compresskit.metaprune.network import load
from compresskit.metaprune.reports import MetatrainReport
from compresskit.models.checkpoint import save_checkpoint
from compresskit.models.graph import ModelGraph

SAMPLE = Path(__file__).parents[2] / "sample_data"
CONFIG = MetatrainConfig(epochs=3, batch_size=50, accumulate=2, milestones=(2,), pruner_reg=0.01, layers=1, width=4, tuning=0.2)


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None: ...


@pytest.fixture
def request_(tmp_path: Path) -> MetatrainRequest:
    """On 300 digits."""
    with np.load(SAMPLE / "digits.npz") as arrays:
        np.savez(tmp_path / "few.npz", x=arrays["x_train"][:400], y=arrays["y_train"][:400])
    return MetatrainRequest(
        str(SAMPLE / "digits_resnet.pt"),
        config=CONFIG,
        output=str(tmp_path / "meta.safetensors"),
        data=str(tmp_path / "few.npz"),
        device="cpu",
        threads=1,
        checkpoint=str(tmp_path / "state"),
    )


def test_the_best_epoch_is_written_and_all_are_kept(request_: MetatrainRequest, tmp_path: Path) -> None:
    report = run(request_)
    assert MetatrainReport.from_json(report.to_json()) == replace(report, settings=json.loads(json.dumps(report.settings)))
    assert sorted(path.name for path in (tmp_path / "meta.epochs").iterdir()) == [f"epoch-00{number}.safetensors" for number in (1, 2, 3)]
    assert (tmp_path / "meta.safetensors").read_bytes() == (tmp_path / f"meta.epochs/epoch-00{report.chosen}.safetensors").read_bytes()
    assert load((tmp_path / "meta.safetensors").read_bytes()).config.width == 4
    assert report.least == pytest.approx(report.original[0].accuracy - CONFIG.tolerance)
    assert {one.epoch for one in report.judged} >= {2}
    assert len(report.losses) == 3
    assert not (tmp_path / "state").exists()
    with pytest.raises(UsageError, match=r"epoch-001.safetensors exists: use --force"):
        run(request_)


def other(graph: ModelGraph, tmp_path: Path) -> str:
    path = tmp_path / "other.pt"
    path.write_bytes(save_checkpoint(graph, "pt"))
    return str(path)


def test_data_with_other_classes_are_refused(request_: MetatrainRequest, tmp_path: Path) -> None:
    with np.load(SAMPLE / "digits.npz") as arrays:
        few = arrays["y_train"] < 5
        np.savez(tmp_path / "five.npz", x=arrays["x_train"][few], y=arrays["y_train"][few])
    with pytest.raises(InputError, match=r"the training data have 5 classes, and .*digits_resnet.pt tells 10 apart"):
        run(replace(request_, data=str(tmp_path / "five.npz")))


def test_networks_that_do_not_go_together_are_refused(request_: MetatrainRequest) -> None:
    with pytest.raises(InputError, match=r"resnet8 maps 3 x 32 x 32 to 10, .*digits_resnet.pt 1 x 8 x 8 to 10: one data set has to serve all"):
        run(replace(request_, others=("resnet8",)))


def test_epochs_of_another_training_are_found_before_this_one(request_: MetatrainRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meta.epochs").mkdir()
    (tmp_path / "meta.epochs/epoch-003.safetensors").write_bytes(b"of another")
    monkeypatch.setattr("compresskit.metaprune.meta_pipeline.metatrain", None)
    with pytest.raises(UsageError, match=r"epoch-003.safetensors exists: use --force"):
        run(request_)


def test_a_folder_that_cannot_be_made_is_an_error_of_output(request_: MetatrainRequest, tmp_path: Path) -> None:
    (tmp_path / "meta.epochs").write_text("in the way")
    with pytest.raises(OutputError, match="cannot make the folder"):
        run(request_)
