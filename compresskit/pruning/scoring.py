"""What decides which channels or weights go: a criterion, masks that were learned, or a saliency before training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from compresskit.data import Dataset
from compresskit.models.graph import ModelGraph
from compresskit.progress import SILENT, Progress
from compresskit.pruning.at_init import SALIENCIES, ChannelMasks, Choice, Task, WeightMasks, balanced_batches, choose_weights, compute_aware
from compresskit.pruning.at_init.base import Batch, Scores
from compresskit.pruning.at_init.masks import Masks
from compresskit.pruning.config import PruneConfig
from compresskit.pruning.criteria import CRITERIA, Context, normalize
from compresskit.pruning.footprint import Cost, footprint
from compresskit.pruning.groups import Prunable
from compresskit.pruning.recovery import Recovery
from compresskit.training.objectives import loss


@dataclass(frozen=True)
class Scored:
    """What matters how much.

    Attributes:
        scores: one tensor (size,) a group, larger where a channel matters more; of channels, where a criterion or a saliency says so.
        notes: what came otherwise than was asked for.
    """

    scores: tuple[Tensor, ...]
    notes: tuple[str, ...] = ()


Scorer = Callable[[Prunable, Cost, float], Scored]
"""Scores of all channels of a model, given its cost and the limit on that."""


def by_criterion(config: PruneConfig, recovery: Recovery | None) -> Scorer:
    """Scores by `config.criterion`, made comparable between groups as `config.normalize` says."""
    criterion = CRITERIA[config.criterion]

    def score(prunable: Prunable, cost: Cost, limit: float) -> Scored:
        batches = list(recovery.calibration()) if recovery is not None and criterion.needs_data else None
        context = Context(prunable.graph.module, prunable.channels, batches, None if batches is None else loss, config.seed)
        return Scored(tuple(normalize(found, config.normalize) for found in criterion(context)))

    return score


def by_saliency(config: PruneConfig, data: Dataset | None, progress: Progress = SILENT) -> Scorer:
    """Scores by the saliency `config.method`, for each multiply-accumulate that a channel costs where `config.compute_aware`."""

    def score(prunable: Prunable, cost: Cost, limit: float) -> Scored:
        found = _saliency(prunable.graph, ChannelMasks(prunable, cost), limit / cost.whole, config, data, progress)
        scores: Sequence[Tensor] = list(found.values.values())
        if config.compute_aware:
            scores = compute_aware(prunable, footprint(prunable.graph, prunable.coupling, "flops"), scores, config.smoothing)
        return Scored(tuple(scores), found.notes)

    return score


def choose_by_saliency(
    graph: ModelGraph, kept: float, config: PruneConfig, data: Dataset | None, progress: Progress = SILENT
) -> tuple[Choice, tuple[str, ...]]:
    """Which fraction `kept` of all single weights stays by the saliency `config.method`, and what is to be said about it."""
    found = _saliency(graph, WeightMasks(graph.module), kept, config, data, progress)
    choice = choose_weights(found.values, kept)
    rescued = tuple(f"{name} would have lost all weights: its best one stays" for name in choice.rescued)
    return choice, (*found.notes, *rescued)


def check_method(config: PruneConfig, *, data: bool) -> None:
    """Refuse early what cannot be scored.

    Raises:
        UsageError: the method or criterion needs data and there are none, or does not score what is to go.
    """
    config.check_data(data=data)
    if config.salient:
        SALIENCIES[config.method].check("weights" if config.sparse else "channels", data=data)
        return
    if not config.sparse:
        CRITERIA[config.criterion].check(data=data)


def _saliency(graph: ModelGraph, masks: Masks, kept: float, config: PruneConfig, data: Dataset | None, progress: Progress) -> Scores:
    progress.stage("score")
    task = Task(graph, masks, kept, None if data is None else _balanced(data, config.seed), None if data is None else loss, config.seed, progress)
    return SALIENCIES[config.method](task, **_inner_loop(config))


def _inner_loop(config: PruneConfig) -> dict[str, Any]:
    """Settings of prospr that differ from its own; no other method has any."""
    settings = {"steps": config.inner_steps, "first_order": config.first_order or None}
    return {name: value for name, value in settings.items() if value is not None}


def _balanced(data: Dataset, seed: int) -> Iterator[Batch]:
    classes = data.classes if data.train.y.ndim == 1 else None  # maps of classes are drawn at large
    return balanced_batches(data.train, data.normalization, classes, seed=seed)
