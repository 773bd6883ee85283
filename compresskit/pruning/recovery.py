"""Getting accuracy back after a cut: fresh norm statistics, then training, with the uncut model as teacher if asked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from compresskit.data import Dataset
from compresskit.models.graph import ModelGraph
from compresskit.progress import Progress
from compresskit.pruning.config import PruneConfig
from compresskit.pruning.criteria import CRITERIA
from compresskit.report import Training
from compresskit.training import Objective, TrainConfig, distillation, recalibrate_batchnorm, train
from compresskit.training.cost import training_cost
from compresskit.training.objectives import supervised
from compresskit.training.state import EpochRecord
from compresskit.training.tuning import Checkpointing, calibration_batches, on_device, train_config

PREPARATION = 1 / 3  # fraction of the epochs that goes before the cut, for criteria that prepare the model
SEARCH = 0.1  # likewise, for masks that learn the widths
RISE = 0.3  # fraction of the search in which the learning rate rises
RECOVERY = 0.4  # fraction of the epochs that is spent between the steps, where there are several
LEARNING_RATES = {"sgd": 0.02, "adamw": 1e-3}
FRESH_LEARNING_RATES = {"sgd": 0.1, "adamw": 3e-3}  # of models that were not trained before


@dataclass(frozen=True)
class Recovery:
    """All that training after a cut needs.

    Attributes:
        teacher: the uncut model.
        config: settled.
        device: where to train; graphs come and go on the CPU.
    """

    teacher: ModelGraph
    data: Dataset
    config: PruneConfig
    device: torch.device
    checkpointing: Checkpointing | None
    progress: Progress

    def calibration(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Some batches of the training samples, on the CPU."""
        return calibration_batches(self.data, self.config.batch_size, self.config.seed)

    def renew_norms(self, graph: ModelGraph) -> None:
        """Estimate the statistics of batch norms anew, in place."""
        recalibrate_batchnorm(graph.module, self.calibration())

    def slim(self, graph: ModelGraph, penalty: Callable[[nn.Module], Tensor], *, phase: int) -> tuple[EpochRecord, ...]:
        """Train the uncut `graph` in place, with `penalty` added to the loss, so that the channels to cut come to light."""
        plain = supervised(self.config.label_smoothing)
        settings = self._settings(self.config.epochs * PREPARATION, phase)
        return self._run(graph.module, settings, lambda module, x, y: plain(module, x, y) + penalty(module))

    def search_steps(self) -> int:
        """Updates that `search` makes."""
        return max(1, round(self.config.epochs * SEARCH * -(-len(self.data.train) // self.config.batch_size)))

    def search(self, module: nn.Module, parameters: list[dict[str, Any]], after_step: Callable[[int], None]) -> tuple[EpochRecord, ...]:
        """Train `module`, in place, while `after_step` narrows it, at a learning rate that rises and stays: no step of the search counts less.

        Raises:
            GuardError: training diverged.
        """
        settings = self._settings(self.config.epochs * SEARCH, phase=1)
        settings = settings and replace(settings, schedule="constant", warmup=RISE)
        return self._run(module, settings, self._objective(), after_step, parameters)

    def train(self, graph: ModelGraph, *, phase: int, phases: int, after_step: Callable[[int], None] | None = None) -> tuple[EpochRecord, ...]:
        """Train `graph` in place for this phase's share of the epochs; phases count down to 0.

        Raises:
            GuardError: training diverged.
            UsageError: settings that training refuses.
        """
        return self._run(graph.module, self._settings(self._share(phase, phases), phase), self._objective(), after_step)

    def cost(self, graph: ModelGraph) -> Training | None:
        """What training `graph`, all of it, costs; None where nothing is trained."""
        settings = self._settings(self.config.epochs, phase=0)
        if settings is None:
            return None
        with on_device(graph.module, self.device):
            return training_cost(graph.module, self.data, settings)

    def _run(
        self,
        module: nn.Module,
        settings: TrainConfig | None,
        objective: Objective | None,
        after_step: Callable[[int], None] | None = None,
        parameters: list[dict[str, Any]] | None = None,
    ) -> tuple[EpochRecord, ...]:
        if settings is None:
            return ()
        with on_device(module, self.device):
            trained = train(module, self.data, settings, objective=objective, after_step=after_step, parameters=parameters, progress=self.progress)
            return trained.history

    def _share(self, phase: int, phases: int) -> float:
        """This phase's part of the epochs that preparation or the search leave."""
        before = SEARCH if self.config.learns else PREPARATION if CRITERIA[self.config.settled(data=True).criterion].penalty else 0
        epochs = self.config.epochs * (1 - before)
        if phases == 1:
            return epochs
        return epochs * (1 - RECOVERY if phase == 0 else RECOVERY / (phases - 1))

    def _settings(self, epochs: float, phase: int) -> TrainConfig | None:
        """What is asked of training in a phase; None where it has no epochs."""
        if epochs <= 0:
            return None
        rate = (FRESH_LEARNING_RATES if self.config.init else LEARNING_RATES)[self.config.optimizer]
        settings = train_config(self.config, self.data, epochs=epochs, rate=rate, kept=self.checkpointing, phase=phase)
        return replace(settings, settled={"round_to": self.config.round_to})

    def _objective(self) -> Objective | None:
        """Distillation for classes; None (the default loss) for numbers, or where it is switched off."""
        if self.data.classes is None or self.config.distill == 0:
            return None
        teacher: fx.GraphModule = copy.deepcopy(self.teacher.module).to(self.device)
        return distillation(teacher, weight=self.config.distill, label_smoothing=self.config.label_smoothing)
