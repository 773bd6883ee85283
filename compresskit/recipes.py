"""How to train, by name: settings that belong together. Free of torch, so that the command line knows them at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from compresskit.errors import UsageError

RecipeName = Literal["thesis", "thesis-imagenet", "short"]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What every command that tunes a model may be told about training.

    Attributes:
        epochs: passes over the training split, all phases together; 0: none.
        learning_rate: the highest; None: one that suits the optimizer.
        milestones: fractions of a training after which the schedule "multistep" divides the rate by ten.
        weight_decay: on weights, not on biases and norms.
        distill: weight of the original model's outputs in the loss (0: labels only).

    Raises:
        UsageError: a value is out of its range.
    """

    epochs: float = 5.0
    batch_size: int = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float | None = None
    schedule: Literal["one-cycle", "cosine", "multistep", "constant"] = "one-cycle"
    milestones: tuple[float, ...] = (0.5, 0.75)
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    augment: Literal["auto", "none", "crop-flip"] = "auto"
    distill: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        checks = {
            "--epochs": (self.epochs, 0 <= self.epochs < float("inf"), "0 or more"),
            "--batch-size": (self.batch_size, self.batch_size >= 1, "1 or more"),
            "--weight-decay": (self.weight_decay, 0 <= self.weight_decay < float("inf"), "0 or more"),
            "--distill": (self.distill, 0 <= self.distill <= 1, "a weight from 0 to 1"),
        }
        for name, (value, holds, expected) in checks.items():
            if not holds:
                raise UsageError(f"{name} takes {expected}, not {value:g}")


@dataclass(frozen=True)
class Recipe:
    """Settings of a training, named as `PruneConfig` and `TrainConfig` name them.

    Attributes:
        learning_rate: the highest.
        milestones: fractions of the epochs after which the schedule "multistep" divides the rate by ten.
        weight_decay: on weights, not on biases and norms.
    """

    epochs: float
    batch_size: int
    learning_rate: float
    schedule: Literal["one-cycle", "multistep"]
    milestones: tuple[float, ...]
    weight_decay: float
    optimizer: Literal["sgd", "adamw"] = "sgd"
    label_smoothing: float = 0.0
    augment: Literal["auto", "none", "crop-flip"] = "auto"

    def settings(self) -> dict[str, Any]:
        """All of it by name."""
        return asdict(self)


RECIPES: Mapping[RecipeName, Recipe] = {
    # The thesis's appendix A.4.2. Momentum it leaves open; 0.9, as its sources have it, is what our SGD always has.
    "thesis": Recipe(200.0, 256, 0.1, "multistep", (0.5, 0.75), 5e-4, augment="crop-flip"),
    "thesis-imagenet": Recipe(100.0, 256, 0.1, "multistep", (0.3, 0.6, 0.9), 1e-4, augment="crop-flip"),
    # For two cores: a small batch makes many steps of few samples, and one cycle needs no long stretches at one rate.
    "short": Recipe(8.0, 64, 0.05, "one-cycle", (), 5e-4),
}
