"""Training that starts from a model which is good already: what commands that tune one have in common."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from compresskit.data import Dataset, batches
from compresskit.errors import InputError
from compresskit.recipes import TrainingSettings
from compresskit.requests import CompressRequest
from compresskit.training import checkpoints
from compresskit.training.config import TrainConfig

CALIBRATION_SAMPLES = 1024
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

    def settled(self, name: str) -> Any:
        """What the run that is to go on had for the setting `name`; None where nothing of it is there."""
        phases = [self.path, *sorted(self.path.parent.glob(f"{glob.escape(self.path.name)}.[0-9]*"))] if self.resume else []
        for path in filter(checkpoints.exists, phases):
            with suppress(InputError):  # whoever goes on from that file says so
                return checkpoints.load(path).get("identity", {}).get(name)
        return None

    def discard(self, phases: int) -> None:
        """Remove the files of `phases` phases, and of the one before them, preparation."""
        for index in range(phases + 1):
            checkpoints.discard(self.phase(index))


def checkpointing(request: CompressRequest) -> Checkpointing | None:
    """Where the state of training is kept, if `request` asks for that."""
    return None if request.checkpoint is None else Checkpointing(Path(request.checkpoint), request.checkpoint_minutes, request.resume)


def discard_checkpoints(request: CompressRequest, phases: int) -> None:
    """Remove the state of `phases` phases, now that there is a result; a dry run has none, and leaves what is there."""
    kept = checkpointing(request)
    if kept is not None and not request.dry_run:
        kept.discard(phases)


def keeping_zeros(weights: Iterable[Tensor]) -> Callable[[int], None] | None:
    """What sets those entries of `weights` back to zero after a step that are zero now, as pruning leaves them; None where there are none."""
    sparse = [(weight, weight.detach() == 0) for weight in weights if not weight.detach().all()]

    @torch.no_grad()
    def after_step(step: int) -> None:
        for weight, zeros in sparse:
            weight.masked_fill_(zeros, 0)

    return after_step if sparse else None


def train_config(settings: TrainingSettings, data: Dataset, *, epochs: float, rate: float, kept: Checkpointing | None, phase: int = 0) -> TrainConfig:
    """What `settings` ask of one phase of training.

    Args:
        epochs: of this phase.
        rate: the highest learning rate, where the settings leave it open.
        kept: where its state is kept; None: nowhere.

    Raises:
        UsageError: settings that training refuses.
    """
    return TrainConfig(
        epochs=epochs,
        batch_size=settings.batch_size,
        optimizer=settings.optimizer,
        lr=settings.learning_rate or rate,
        weight_decay=settings.weight_decay,
        schedule=settings.schedule,
        milestones=settings.milestones,
        label_smoothing=settings.label_smoothing,
        augment=augmentation(settings.augment, data),
        checkpoint=kept.phase(phase) if kept else None,
        checkpoint_minutes=kept.minutes if kept else TrainConfig.checkpoint_minutes,
        resume=kept.resume if kept else False,
        seed=settings.seed,
    )


def augmentation(asked: Literal["auto", "none", "crop-flip"], data: Dataset) -> Literal["none", "crop-flip"]:
    """How images change in training, as asked, or as suits them."""
    if asked != "auto":
        return asked
    sizes = sorted(data.train.x.shape[1:])
    photo = len(sizes) == 3 and sizes[0] == 3 and sizes[1] >= SMALLEST_PHOTO and data.train.y.ndim <= 2  # a map would have to move along
    return "crop-flip" if photo else "none"


def calibration_batches(data: Dataset, batch_size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of the first `CALIBRATION_SAMPLES` of a seeded order of the training samples, on the CPU."""
    order = torch.Generator().manual_seed(seed)
    count = -(-min(CALIBRATION_SAMPLES, len(data.train)) // batch_size)
    return islice(batches(data.train, data.normalization, batch_size, shuffle=order), count)


@contextmanager
def on_device(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Keep `module` on `device` within the context; models come and go on the CPU."""
    module.to(device)
    try:
        yield
    finally:
        module.to("cpu")
