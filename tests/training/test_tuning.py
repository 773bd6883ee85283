"""What commands that tune a trained model share: settings of training, the files that keep its state, batches to calibrate on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from compresskit.data import Dataset, Split
from compresskit.errors import UsageError
from compresskit.models.graph import Normalization
from compresskit.recipes import TrainingSettings
from compresskit.training import checkpoints
from compresskit.training.tuning import CALIBRATION_SAMPLES, Checkpointing, augmentation, calibration_batches, on_device, train_config


def _data(shape: tuple[int, ...], count: int = 40) -> Dataset:
    split = Split(np.random.default_rng(0).standard_normal((count, *shape)).astype(np.float32), np.arange(count) % 2)
    return Dataset(split, split, None, Normalization((0.0,), (1.0,)), "none", 2)


def test_settings_reach_the_training_and_the_rate_is_ours_where_they_leave_it_open(tmp_path: Path) -> None:
    settings = TrainingSettings(epochs=9, batch_size=7, optimizer="adamw", weight_decay=0.1, schedule="cosine", label_smoothing=0.2, seed=5)
    kept = Checkpointing(tmp_path / "state", minutes=2, resume=True)
    found = train_config(settings, _data((3, 32, 32)), epochs=2.5, rate=0.3, kept=kept, phase=1)
    assert (found.epochs, found.lr, found.batch_size, found.optimizer, found.weight_decay, found.seed) == (2.5, 0.3, 7, "adamw", 0.1, 5)
    assert (found.schedule, found.label_smoothing, found.augment) == ("cosine", 0.2, "crop-flip")
    assert (found.checkpoint, found.checkpoint_minutes, found.resume) == (tmp_path / "state.1", 2, True)
    plain = train_config(replace(settings, learning_rate=0.7), _data((3, 32, 32)), epochs=1, rate=0.3, kept=None)
    assert (plain.lr, plain.checkpoint, plain.resume) == (0.7, None, False)


@pytest.mark.parametrize(("shape", "want"), [((3, 32, 32), "crop-flip"), ((1, 28, 28), "none"), ((3, 8, 8), "none"), ((16,), "none")])
def test_only_photos_are_mirrored_unasked(shape: tuple[int, ...], want: str) -> None:
    assert augmentation("auto", _data(shape)) == want
    assert augmentation("none", _data(shape)) == "none"
    assert augmentation("crop-flip", _data(shape)) == "crop-flip"


def test_files_of_the_phases(tmp_path: Path) -> None:
    kept = Checkpointing(tmp_path / "state")
    assert (kept.phase(0), kept.phase(2)) == (tmp_path / "state", tmp_path / "state.2")
    for index in range(3):
        checkpoints.save(kept.phase(index), {})
    kept.discard(1)
    assert [path.name for path in tmp_path.iterdir()] == ["state.2"]


@pytest.mark.parametrize("phase", [0, 1, 3])
def test_settings_of_the_run_that_goes_on_are_found_in_any_of_its_phases(tmp_path: Path, phase: int) -> None:
    kept = Checkpointing(tmp_path / "a [state]", resume=True)
    assert kept.settled("seed") is None
    (tmp_path / "a [state].note").write_text("another's")
    (tmp_path / "a [state].2").write_text("damaged")
    checkpoints.save(kept.phase(phase), {"identity": {"seed": 7}})
    assert (kept.settled("seed"), kept.settled("round_to")) == (7, None)
    assert replace(kept, resume=False).settled("seed") is None


def test_calibration_batches_are_the_first_of_a_seeded_order() -> None:
    data = _data((2,), count=3 * CALIBRATION_SAMPLES)
    found = [torch.cat([x for x, _ in calibration_batches(data, 128, seed)]) for seed in (1, 1, 2)]
    assert len(found[0]) == CALIBRATION_SAMPLES
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_models_come_back_from_the_device() -> None:
    module = nn.Linear(2, 2)
    with pytest.raises(RuntimeError), on_device(module, torch.device("cpu")):
        raise RuntimeError
    assert module.weight.device.type == "cpu"


@pytest.mark.parametrize(("name", "value"), [("epochs", -1), ("epochs", float("nan")), ("batch_size", 0), ("weight_decay", -1), ("distill", 1.5)])
def test_values_out_of_range(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} takes"):
        TrainingSettings(**{name: value})  # type: ignore[arg-type]
