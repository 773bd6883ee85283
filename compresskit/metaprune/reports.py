"""What `metaprune` and its training report beside what every command does."""

from __future__ import annotations

from dataclasses import dataclass

from compresskit.report import Accuracy, ModelReport, Report


@dataclass(frozen=True)
class CurvePoint:
    """A network cut to `speedup` and not trained: the quotient of the MACs before and after, and the accuracy that is left."""

    speedup: float
    accuracy: float


@dataclass(frozen=True)
class Stage:
    """The network after one step of the way.

    Attributes:
        name: "original", "initial pruning", "metanetwork", "fine-tuning" or "pruning"; training is part of the first and the last of them.
        epochs: of training in this step.
        accuracy: on the validation split; the test split is for the network that comes out.
    """

    name: str
    epochs: float
    macs: int
    accuracy: Accuracy


@dataclass(frozen=True)
class LayerStatistics:
    """A layer before the metanetwork, and after it and the fine-tuning.

    Attributes:
        norm_before, norm_after: L2 norm of a filter, averaged over the filters.
        sensitivity_before, sensitivity_after: by how much the loss would change without a filter, by its gradient, likewise.
    """

    name: str
    norm_before: float
    norm_after: float
    sensitivity_before: float
    sensitivity_after: float


@dataclass(frozen=True, kw_only=True)
class MetapruneReport(Report):
    """What `compresskit metaprune` did.

    Attributes:
        metanetwork: which was used.
        steps: of the way, in their order.
        curve_before, curve_after: how accuracy falls with the speed-up, of the network that the metanetwork got and of the one that was cut; on
            the validation split. Empty where they were not asked for.
        statistics: where they were asked for.
        unconverted: trainable parameters that the metanetwork could not see.
    """

    metanetwork: str
    steps: tuple[Stage, ...]
    curve_before: tuple[CurvePoint, ...] = ()
    curve_after: tuple[CurvePoint, ...] = ()
    statistics: tuple[LayerStatistics, ...] = ()
    unconverted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judged:
    """The metanetwork of one epoch, by what it makes of a network.

    Attributes:
        accuracy: of the network, rewritten and trained, on the validation split.
        flat: speed-up up to which it keeps the accuracy that was asked for; 1 where it never has it.
        curve: how its accuracy falls.
    """

    epoch: int
    accuracy: float
    flat: float
    curve: tuple[CurvePoint, ...]


@dataclass(frozen=True, kw_only=True)
class MetatrainReport(ModelReport):
    """What `compresskit metaprune --train` did.

    Attributes:
        models: that it learned from; `model` is the first of them, which epochs were judged on.
        losses: mean of each epoch.
        least: accuracy on the validation split that the flat part of a curve keeps.
        original: how the accuracy of the network falls that epochs were judged on, without a metanetwork.
        judged: the epochs that were looked at.
        chosen: the epoch that was written.
        kept: the folder with all of them.
        parameters: of the metanetwork.
    """

    models: tuple[str, ...]
    parameters: int
    losses: tuple[float, ...]
    least: float
    original: tuple[CurvePoint, ...]
    judged: tuple[Judged, ...]
    chosen: int
    kept: str
