"""The training loop: what fine-tuning, quantization-aware training, sparsifying and meta-training all run through.

    batch ──► share of this rank ──► objective ──► gradient ──► mean over ranks ──► finite? ──► update ──► after_step ──► copy
                                                                                       │                                 │
                                             GuardError, model as after the last step ◄┘        checkpoint, validation ◄─┘

After each step the whole state is copied. So whatever ends a run (Ctrl-C in the middle of an update, a NaN, a full memory) leaves the
model as it was after a completed step, and a checkpoint of that step; and a run that continues from it ends like one that was never ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from compresskit.progress import SILENT, Progress
from compresskit.training.config import TrainConfig
from compresskit.training.objectives import Objective
from compresskit.training.pointwise import unit_strides
from compresskit.training.precision import restore_layout
from compresskit.training.run import Run, TrainingData
from compresskit.training.state import EpochRecord


@dataclass(frozen=True)
class TrainResult:
    """How a run went; the model itself is trained in place.

    Attributes:
        history: a record an epoch, the last of which may be of a part of one.
        steps: updates made, those before a resumption included.
        seconds: what the epochs took, validation included.
    """

    history: tuple[EpochRecord, ...]
    steps: int
    seconds: float


def train(
    module: nn.Module,
    data: TrainingData,
    config: TrainConfig,
    *,
    objective: Objective | None = None,
    after_step: Callable[[int], None] | None = None,
    parameters: Iterable[dict[str, Any]] | None = None,
    progress: Progress = SILENT,
) -> TrainResult:
    """Train `module` in place, on the device where it is; it is left in evaluation mode.

    Args:
        data: the training split, the validation split (measured after each epoch; None: not), and how both are normalized.
        objective: what to minimise; None: cross entropy for integer targets, squared error for others. It keeps no state between steps.
        after_step: called after each update with the number of updates made, to project weights onto a constraint. No state either.
        parameters: optimizer groups, with their own `lr` or `weight_decay` where they differ from the config; None: all that require gradients.
        progress: receives a stage "train" of as many steps as there are.

    Raises:
        GuardError: loss, gradient or parameters became infinite or NaN; the model is as after the last good step.
        InputError: no training samples, targets that do not fit the model, or no whole checkpoint.
        UsageError: the checkpoint belongs to another run, or exists and `resume` is off; nothing to train; several outputs and no objective.
        OutputError: a checkpoint cannot be written.
    """
    threads = torch.get_num_threads()
    try:
        run = Run(module, data, config, objective, after_step, parameters, progress)
        try:
            with unit_strides(module):
                run.go()
        except BaseException:
            run.abandon()
            raise
    finally:
        torch.set_num_threads(threads)
        restore_layout(module)
        module.zero_grad()
        module.eval()
    return TrainResult(run.good.history, run.good.step, sum(record.seconds for record in run.good.history))
