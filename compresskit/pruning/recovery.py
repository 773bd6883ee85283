"""Getting accuracy back after a cut: fresh norm statistics, then training with the uncut model as teacher."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, fx

from compresskit.data import Dataset, batches
from compresskit.models.graph import ModelGraph
from compresskit.progress import Progress
from compresskit.pruning.config import PruneConfig
from compresskit.training import Objective, TrainConfig, distillation, recalibrate_batchnorm, train
from compresskit.training.state import EpochRecord

CALIBRATION_SAMPLES = 1024
RECOVERY = 0.4  # fraction of the epochs that is spent between the steps, where there are several
LEARNING_RATES = {"sgd": 0.05, "adamw": 1e-3}
SMALLEST_PHOTO = 24  # pixels; below, and in gray, a mirrored image may mean something else (digits do)


@dataclass(frozen=True)
class Checkpointing:
    """Where and how often the state of training is kept."""

    path: Path
    minutes: float = 5.0
    resume: bool = False

    def phase(self, index: int) -> Path:
        """The file of one phase of training: the last phase has index 0."""
        return self.path if index == 0 else self.path.with_name(f"{self.path.name}.{index}")


@dataclass(frozen=True)
class Recovery:
    """All that training after a cut needs.

    Attributes:
        teacher: the uncut model.
        device: where to train; graphs come and go on the CPU.
    """

    teacher: ModelGraph
    data: Dataset
    config: PruneConfig
    device: torch.device
    checkpointing: Checkpointing | None
    progress: Progress

    def calibration(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of the first `CALIBRATION_SAMPLES` of a seeded order of the training samples, on the CPU."""
        order = torch.Generator().manual_seed(self.config.seed)
        count = -(-min(CALIBRATION_SAMPLES, len(self.data.train)) // self.config.batch_size)
        return islice(batches(self.data.train, self.data.normalization, self.config.batch_size, shuffle=order), count)

    def renew_norms(self, graph: ModelGraph) -> None:
        """Estimate the statistics of batch norms anew, in place."""
        recalibrate_batchnorm(graph.module, self.calibration())

    def train(self, graph: ModelGraph, *, phase: int, phases: int, after_step: Callable[[int], None] | None = None) -> tuple[EpochRecord, ...]:
        """Train `graph` in place for this phase's share of the epochs; phases count down to 0.

        Raises:
            GuardError: training diverged.
            UsageError: settings that training refuses.
        """
        epochs = self._share(phase, phases)
        if epochs <= 0:
            return ()
        graph.module.to(self.device)
        try:
            result = train(
                graph.module, self.data, self._settings(epochs, phase), objective=self._objective(), after_step=after_step, progress=self.progress
            )
        finally:
            graph.module.to("cpu")
        return result.history

    def _share(self, phase: int, phases: int) -> float:
        if phases == 1:
            return self.config.epochs
        return self.config.epochs * (1 - RECOVERY if phase == 0 else RECOVERY / (phases - 1))

    def _settings(self, epochs: float, phase: int) -> TrainConfig:
        config, kept = self.config, self.checkpointing
        rate = config.learning_rate or LEARNING_RATES[config.optimizer]
        return TrainConfig(
            epochs=epochs,
            batch_size=config.batch_size,
            optimizer=config.optimizer,
            lr=rate,
            schedule=config.schedule,
            label_smoothing=config.label_smoothing,
            augment=self._augment(),
            checkpoint=kept.phase(phase) if kept else None,
            checkpoint_minutes=kept.minutes if kept else TrainConfig.checkpoint_minutes,
            resume=kept.resume if kept else False,
            seed=config.seed,
        )

    def _augment(self) -> Literal["none", "crop-flip"]:
        if self.config.augment != "auto":
            return self.config.augment
        sizes = sorted(self.data.train.x.shape[1:])
        photo = len(sizes) == 3 and sizes[0] == 3 and sizes[1] >= SMALLEST_PHOTO
        return "crop-flip" if photo else "none"

    def _objective(self) -> Objective | None:
        """Distillation for classes; None (the default loss) for numbers, or where it is switched off."""
        if self.data.classes is None or self.config.distill == 0:
            return None
        teacher: fx.GraphModule = copy.deepcopy(self.teacher.module).to(self.device)
        return distillation(teacher, weight=self.config.distill, label_smoothing=self.config.label_smoothing)
