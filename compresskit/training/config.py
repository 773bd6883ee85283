"""What one training run is asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from compresskit.errors import UsageError

Schedule = Literal["one-cycle", "cosine", "multistep", "constant"]
Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class TrainConfig:
    """Settings of `train`.

    Attributes:
        epochs: passes over the training split; a fraction ends within a pass.
        batch_size: samples a step, over all processes together.
        optimizer: "sgd" (with Nesterov's momentum) or "adamw".
        lr: the highest learning rate that the schedule reaches.
        momentum: of SGD; for AdamW its first beta.
        weight_decay: on tensors of two or more dimensions, hence not on biases and norms.
        schedule: see `schedule.factor`.
        milestones: fractions of the run after which "multistep" divides the rate by ten.
        warmup: fraction of the run in which the rate rises; None: 0.3 for "one-cycle", 0 for the others.
        label_smoothing: of the default objective for classes.
        augment: "none", or "crop-flip" for images.
        precision: of the arithmetic; parameters, statistics of norms and the loss stay in fp32. "auto" is bf16 where the hardware computes in it.
        channels_last: lay images out as NHWC in memory where the model allows it; faster, and no value changes its meaning.
        clip: largest L2 norm of the whole gradient; None: any.
        checkpoint: file that keeps the state of the run, and with `.previous` appended the state before it.
        checkpoint_minutes: time between two checkpoints.
        resume: continue from `checkpoint` if it is there.
        seed: of the order of the data, the augmentation and dropout.
        settled: what was decided before the training, by name: a run where it was decided otherwise is another one.

    Raises:
        UsageError: a value is out of its range.
    """

    epochs: float = 5.0
    batch_size: int = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Schedule = "one-cycle"
    milestones: tuple[float, ...] = (0.5, 0.75)
    warmup: float | None = None
    label_smoothing: float = 0.0
    augment: Literal["none", "crop-flip"] = "none"
    precision: Precision = "auto"
    channels_last: bool = True
    clip: float | None = None
    checkpoint: Path | None = None
    checkpoint_minutes: float = 10.0
    resume: bool = False
    seed: int = 0
    settled: Mapping[str, int | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks = {
            "epochs": (0 < self.epochs < float("inf"), "a positive number"),
            "batch_size": (self.batch_size >= 1, "1 or more"),
            "optimizer": (self.optimizer in ("sgd", "adamw"), "sgd or adamw"),
            "lr": (0 < self.lr < float("inf"), "a positive number"),
            "momentum": (0 <= self.momentum < 1, "from 0 to below 1"),
            "weight_decay": (0 <= self.weight_decay < float("inf"), "0 or more"),
            "schedule": (self.schedule in get_args(Schedule), f"one of {', '.join(get_args(Schedule))}"),
            "milestones": (all(0 < m < 1 for m in self.milestones), "fractions between 0 and 1"),
            "warmup": (self.warmup is None or 0 <= self.warmup < 1, "from 0 to below 1"),
            "label_smoothing": (0 <= self.label_smoothing < 1, "from 0 to below 1"),
            "augment": (self.augment in ("none", "crop-flip"), "none or crop-flip"),
            "precision": (self.precision in get_args(Precision), f"one of {', '.join(get_args(Precision))}"),
            "clip": (self.clip is None or self.clip > 0, "a positive number"),
            "checkpoint_minutes": (self.checkpoint_minutes >= 0, "0 or more"),
            "resume": (self.checkpoint is not None or not self.resume, "the checkpoint to resume from"),
            "seed": (self.seed >= 0, "0 or more"),
        }
        for name, (holds, expected) in checks.items():
            if not holds:
                raise UsageError(f"{name} is {getattr(self, name)!r}: give {expected}")
