"""How to train, by name: settings that belong together. Free of torch, so that the command line knows them at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

RecipeName = Literal["thesis", "thesis-imagenet", "short"]


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
    # What two cores make of CIFAR-10 in minutes: one-cycle takes the place of the long stretches at one rate.
    "short": Recipe(8.0, 128, 0.1, "one-cycle", (), 5e-4),
}
