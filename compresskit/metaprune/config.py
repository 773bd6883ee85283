"""What `metaprune` is asked to do. Free of torch, so that the command line can build it before anything heavy loads."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import Literal, get_args

from compresskit.errors import UsageError
from compresskit.pruning.request import PruneRequest
from compresskit.requests import CompressRequest

Pressed = Literal["l2", "l1", "l2-first", "l1-first", "weights"]
Normalizer = Literal["none", "mean", "max"]


@dataclass(frozen=True)
class MetapruneConfig:
    """What a metanetwork adds to pruning.

    Attributes:
        epochs: training passes after the network was rewritten; those after it was pruned are `PruneConfig.epochs`.
        initial: speed-up to which the network is pruned before it is rewritten, for a network that is easy to prune; 1: it is not.
        initial_epochs: training passes after that.
        curve: measure how accuracy falls as ever more is cut, before and after the metanetwork, and untrained.
        explain: measure how large and how sensitive the channels of each layer are, likewise.
    """

    epochs: float = 2.0
    initial: float = 1.0
    initial_epochs: float = 0.0
    curve: bool = False
    explain: bool = False

    def __post_init__(self) -> None:
        _check("--initial", self.initial, 1 <= self.initial < float("inf"), "a speed-up of 1 or more")
        for epochs in (self.epochs, self.initial_epochs):
            _check("--epochs", epochs, 0 <= epochs < float("inf"), "0 or more")


@dataclass(frozen=True)
class MetatrainConfig:
    """Settings of meta-training; the defaults trained the metanetwork that ships.

    The paper (tables 10 and 13) has 8 layers of width 32 or 64, big batches of all 50,000 images, and a `pruner_reg` of 10 beside an accuracy loss
    that is summed over the parts of a big batch; ours is their mean.

    Attributes:
        epochs: passes over the training data; the metanetwork of each is kept.
        batch_size: samples that go through a network at once.
        accumulate: how many such batches make an update.
        learning_rate, weight_decay: of AdamW.
        milestones: epochs after which the rate is divided by ten.
        pruner_reg: weight of the sparsity loss beside the accuracy loss.
        criterion: what is made small: a group norm by its name among the criteria, or single "weights".
        normalize, alpha, relative: of the group norm, see `GroupSparsity`.
        layers, width, scale: of the metanetwork; the last is of what it adds to weights.
        augment: of the training data.
        tolerance: how much accuracy the flat part of a curve may lose, as a fraction; the epoch with the longest is chosen.
        tuning: training passes of a network that is rewritten to judge an epoch.
    """

    epochs: int = 9
    batch_size: int = 250
    accumulate: int = 2
    learning_rate: float = 1e-3
    weight_decay: float = 5e-4
    milestones: tuple[int, ...] = (3,)
    pruner_reg: float = 0.015
    criterion: Pressed = "l2"
    normalize: Normalizer = "mean"
    alpha: float = 4.0
    relative: bool = True
    layers: int = 4
    width: int = 32
    scale: float = 0.01
    augment: Literal["none", "crop-flip"] = "none"
    tolerance: float = 0.01
    tuning: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        checks = {
            "--epochs": (self.epochs, self.epochs >= 1, "1 or more"),
            "--batch-size": (self.batch_size, self.batch_size >= 1, "1 or more"),
            "--accumulate": (self.accumulate, self.accumulate >= 1, "1 or more"),
            "--milestones": (self.milestones, all(epoch > 0 for epoch in self.milestones), "epochs from 1 on"),
            "--pruner-reg": (self.pruner_reg, 0 <= self.pruner_reg < float("inf"), "0 or more"),
            "--criterion": (self.criterion, self.criterion in get_args(Pressed), f"one of {', '.join(get_args(Pressed))}"),
            "--alpha": (self.alpha, 0 <= self.alpha < float("inf"), "0 or more"),
            "--scale": (self.scale, 0 < self.scale < float("inf"), "a positive number"),
            "--tolerance": (self.tolerance, 0 <= self.tolerance < 1, "a fraction from 0 to below 1"),
            "--tuning": (self.tuning, 0 <= self.tuning < float("inf"), "0 or more"),
        }
        for name, (value, holds, expected) in checks.items():
            _check(name, value, holds, expected)


def _check(name: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise UsageError(f"{name} takes {expected}, not {value}")


@dataclass(frozen=True)
class MetapruneRequest(PruneRequest):
    """One `compresskit metaprune` from file to files: what `compresskit.metaprune.pipeline.run` takes.

    Attributes:
        meta: what the metanetwork adds.
        metanetwork: its file; None: the one that is shipped.
    """

    _: KW_ONLY
    meta: MetapruneConfig = field(default_factory=MetapruneConfig)
    metanetwork: str | None = None


@dataclass(frozen=True)
class MetatrainRequest(CompressRequest):
    """One `compresskit metaprune --train`: `model` is the first network to learn from.

    Attributes:
        others: the other networks, named as `model` is.
        output: file for the metanetwork; a folder beside it keeps those of all epochs.
    """

    output: str
    config: MetatrainConfig = field(default_factory=MetatrainConfig)
    others: tuple[str, ...] = ()
