"""Recovery: which settings reach the training loop, whose outputs it learns from, and that an interrupted one goes on to the same bits."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compresskit.data.dataset import Dataset, Split
from compresskit.errors import UsageError
from compresskit.models.graph import ModelGraph
from compresskit.progress import SILENT
from compresskit.pruning import recovery
from compresskit.pruning.config import PruneConfig, Target
from compresskit.pruning.engine import prune
from compresskit.pruning.recovery import Recovery
from compresskit.training import TrainConfig, checkpoints
from compresskit.training.tuning import CALIBRATION_SAMPLES, Checkpointing

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = PruneConfig(target=Target("flops", 0.5), epochs=2.0, batch_size=64, seed=3)


def make(graph: ModelGraph, data: Dataset, config: PruneConfig = CONFIG, kept: Checkpointing | None = None) -> Recovery:
    return Recovery(graph, data, config.settled(), torch.device("cpu"), kept, SILENT)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """The settings that the training loop is called with, in place of the training."""
    calls: list[TrainConfig] = []

    def train(module: nn.Module, data: Dataset, config: TrainConfig, **_: Any) -> SimpleNamespace:
        calls.append(config)
        return SimpleNamespace(history=())

    monkeypatch.setattr(recovery, "train", train)
    return calls


def state(graph: ModelGraph) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in graph.module.state_dict().items()}


def equal(one: ModelGraph, two: ModelGraph) -> bool:
    first, second = state(one), state(two)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("steps", "shares"), [(1, [5.0]), (2, [2.0, 3.0]), (5, [0.5, 0.5, 0.5, 0.5, 3.0])])
def test_epochs_are_shared_between_the_steps(
    small_net: ModelGraph, digits: Dataset, asked: list[TrainConfig], steps: int, shares: list[float]
) -> None:
    prune(small_net, digits, replace(CONFIG, epochs=5.0, steps=steps))
    assert [config.epochs for config in asked] == pytest.approx(shares)


def test_a_search_raises_the_rate_and_training_follows_its_schedule(small_net: ModelGraph, digits: Dataset, asked: list[TrainConfig]) -> None:
    prune(small_net, digits, replace(CONFIG, epochs=5.0, method="l1l2"))
    assert [config.epochs for config in asked] == pytest.approx([0.5, 4.5])
    assert [(config.schedule, config.warmup) for config in asked] == [("constant", 0.3), ("one-cycle", None)]
    assert make(small_net, digits, replace(CONFIG, epochs=5.0)).search_steps() == 2  # of 300 samples, 64 a step


def test_no_epochs_are_no_training(small_net: ModelGraph, digits: Dataset, asked: list[TrainConfig]) -> None:
    assert make(small_net, digits, replace(CONFIG, epochs=0.0)).train(small_net, phase=0, phases=1) == ()
    assert asked == []


def test_settings_arrive(small_net: ModelGraph, digits: Dataset, asked: list[TrainConfig], tmp_path: Path) -> None:
    config = replace(CONFIG, optimizer="adamw", schedule="cosine", label_smoothing=0.1, augment="crop-flip", round_to=4)
    kept = Checkpointing(tmp_path / "c", minutes=2.0, resume=True)
    make(small_net, digits, config, kept).train(small_net, phase=2, phases=3)
    make(small_net, digits, replace(config, learning_rate=0.3)).train(small_net, phase=0, phases=1)
    assert asked[0] == TrainConfig(
        epochs=2.0 * 0.4 / 2,
        batch_size=64,
        optimizer="adamw",
        lr=1e-3,
        schedule="cosine",
        label_smoothing=0.1,
        augment="crop-flip",
        checkpoint=tmp_path / "c.2",
        checkpoint_minutes=2.0,
        resume=True,
        seed=3,
        settled={"round_to": 4},
    )
    assert (asked[1].lr, asked[1].checkpoint, asked[1].resume) == (0.3, None, False)


@pytest.mark.parametrize(
    ("shape", "expected"), [((3, 32, 32), "crop-flip"), ((32, 32, 3), "crop-flip"), ((1, 28, 28), "none"), ((3, 8, 8), "none"), ((20,), "none")]
)
def test_only_photos_are_mirrored_unasked(
    small_net: ModelGraph, digits: Dataset, asked: list[TrainConfig], shape: tuple[int, ...], expected: str
) -> None:
    data = replace(digits, train=Split(np.zeros((4, *shape), np.uint8), np.zeros(4, np.int64)))
    make(small_net, data).train(small_net, phase=0, phases=1)
    assert asked[0].augment == expected


def test_norms_are_renewed_to_the_mean_over_calibration(small_net: ModelGraph, digits: Dataset) -> None:
    graph = small_net.with_module(copy.deepcopy(small_net.module))
    work = make(graph, digits)
    work.renew_norms(graph)
    means = []
    first = graph.module.get_submodule("0")
    with torch.no_grad():
        for x, _ in work.calibration():
            means.append(first(x).mean((0, 2, 3)))
    assert torch.allclose(graph.module.get_buffer("1.running_mean"), torch.stack(means).mean(0), atol=1e-6)
    weights = {name for name, _ in graph.module.named_parameters()}
    assert all(torch.equal(tensor, small_net.module.state_dict()[name]) for name, tensor in state(graph).items() if name in weights)


def test_calibration_is_seeded_and_bounded(small_net: ModelGraph, digits: Dataset) -> None:
    many = replace(digits, train=Split(np.tile(digits.train.x, (5, 1, 1, 1)), np.tile(digits.train.y, 5)))
    sizes = [len(x) for x, _ in make(small_net, many).calibration()]
    assert CALIBRATION_SAMPLES - 64 <= sum(sizes) <= CALIBRATION_SAMPLES + 64
    one, two, other = (next(make(small_net, many, replace(CONFIG, seed=seed)).calibration())[0] for seed in (3, 3, 4))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_classes_are_learned_from_the_uncut_model_numbers_are_not(
    small_net: ModelGraph, digits: Dataset, line_net: ModelGraph, line: Dataset
) -> None:
    def trained(net: ModelGraph, data: Dataset, weight: float) -> ModelGraph:
        return prune(net, data, replace(CONFIG, distill=weight, epochs=0.5)).graph

    assert equal(trained(line_net, line, 0.5), trained(line_net, line, 0.0))
    assert not equal(trained(small_net, digits, 0.5), trained(small_net, digits, 0.0))


class Killed(BaseException):
    """What a signal handler raises."""


class Killer:
    """A progress that raises in one training step, counted over the whole run."""

    def __init__(self, deadly: int) -> None:
        self.left = deadly

    def stage(self, name: str, total: int | None = None) -> None: ...

    def advance(self, steps: int = 1, **figures: float) -> None:
        self.left -= steps
        if self.left < 0:
            raise Killed

    def note(self, message: str) -> None: ...


@pytest.mark.parametrize("deadly", [1, 7])  # of 4 steps between the cuts and 6 after them
def test_a_run_killed_in_any_phase_continues_to_the_same_model(small_net: ModelGraph, digits: Dataset, tmp_path: Path, deadly: int) -> None:
    config = replace(CONFIG, steps=2)
    kept = Checkpointing(tmp_path / "run", minutes=0.0)
    whole = prune(small_net, digits, config)
    with pytest.raises(Killed):
        prune(small_net, digits, config, checkpointing=kept, progress=Killer(deadly))
    assert (checkpoints.exists(kept.phase(1)), checkpoints.exists(kept.phase(0))) == (True, deadly >= 4)
    resumed = prune(small_net, digits, config, checkpointing=replace(kept, resume=True))
    assert equal(resumed.graph, whole.graph)
    assert [replace(record, seconds=0.0) for record in resumed.history] == [replace(record, seconds=0.0) for record in whole.history]


def test_a_checkpoint_of_another_run_is_not_continued(small_net: ModelGraph, digits: Dataset, tmp_path: Path) -> None:
    kept = Checkpointing(tmp_path / "run")
    prune(small_net, digits, CONFIG, checkpointing=kept)
    with pytest.raises(UsageError, match="exists: continue from it with --resume"):
        prune(small_net, digits, CONFIG, checkpointing=kept)
    with pytest.raises(UsageError, match="is of another run, different in"):
        prune(small_net, digits, replace(CONFIG, epochs=1.0), checkpointing=replace(kept, resume=True))
