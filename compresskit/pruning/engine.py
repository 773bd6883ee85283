"""The pruning engine: a graph in, a smaller graph out.

           ┌──────────────── once a step ─────────────────┐
graph ──►  find groups ─► score ─► plan ─► cut and check ─► renew norms ─► train  ──► smaller graph
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch

from compresskit.data import Dataset
from compresskit.errors import InputError, TargetError
from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph
from compresskit.progress import SILENT, Progress
from compresskit.pruning.config import PruneConfig, Target
from compresskit.pruning.criteria import CRITERIA, Context, normalize
from compresskit.pruning.cut import TOLERANCE, cut, disagreement
from compresskit.pruning.groups import Prunable, find_groups
from compresskit.pruning.recovery import Checkpointing, Recovery
from compresskit.pruning.sparsity import apply_masks, find_masks, sparse_weights
from compresskit.pruning.target import CLOSE, footprint, plan
from compresskit.report import Skipped
from compresskit.training.objectives import loss
from compresskit.training.state import EpochRecord


@dataclass(frozen=True)
class PruneResult:
    """What the engine made.

    Attributes:
        graph: the smaller (or sparser) model.
        reached: kept fraction of the quantity that the target names; removed fraction of the weights for sparsity.
        asked: the same, as it was asked for.
        met: whether the two agree to within 1%.
        skipped: what was left whole, and why.
        history: training, epoch by epoch.
    """

    graph: ModelGraph
    reached: float
    asked: float
    met: bool
    skipped: tuple[Skipped, ...] = ()
    history: tuple[EpochRecord, ...] = ()


def prune(
    graph: ModelGraph,
    data: Dataset | None,
    config: PruneConfig,
    *,
    device: torch.device | str = "cpu",
    checkpointing: Checkpointing | None = None,
    progress: Progress = SILENT,
) -> PruneResult:
    """Prune `graph` to the target of `config`, and train it where there are data. `graph` itself is left as it was.

    Raises:
        TargetError: nothing at all can be cut.
        UsageError: the criterion needs data that are not there; settings that contradict each other.
        GuardError: training diverged.
        InputError: the data do not fit the model, or its batch is baked in and it is to be trained.
    """
    if data is not None and not graph.free_batch:
        raise InputError(f"{graph.source}: its batch of {graph.inputs[0].shape[0]} is baked in, so it cannot be trained: leave out --data")
    recovery = None if data is None else Recovery(graph, data, config, torch.device(device), checkpointing, progress)
    if config.target is None:
        return _sparsify(graph, recovery, config, progress)
    return _shrink(graph, recovery, config, config.target, progress)


def _shrink(graph: ModelGraph, recovery: Recovery | None, config: PruneConfig, target: Target, progress: Progress) -> PruneResult:
    """Cut channels in `config.steps` steps, each by the same factor, with recovery after each."""
    whole = _size(graph, target)
    limit = target.limit(whole)
    current = graph
    skipped: tuple[Skipped, ...] = ()
    history: tuple[EpochRecord, ...] = ()
    for phase in reversed(range(config.steps)):
        progress.stage("cut")
        goal = whole * (limit / whole) ** ((config.steps - phase) / config.steps)
        current, skipped = _cut_checked(current, recovery, config, target, goal)
        if recovery is not None:
            recovery.renew_norms(current)
            history += recovery.train(current, phase=phase, phases=config.steps)
    reached = _size(current, target)
    if reached >= whole:
        raise TargetError("nothing could be cut from this model: every group of channels has to stay whole")
    return PruneResult(current, reached / whole, limit / whole, abs(reached - limit) <= CLOSE * limit, skipped, history)


def _size(graph: ModelGraph, target: Target) -> float:
    cost = total(graph)
    return float({"flops": cost.macs, "params": cost.params, "size": cost.bytes}[target.quantity])


def _cut_checked(
    graph: ModelGraph, recovery: Recovery | None, config: PruneConfig, target: Target, goal: float
) -> tuple[ModelGraph, tuple[Skipped, ...]]:
    """Score, plan and cut. A group whose cut does not equal its zeroing is put back, left whole and reported."""
    prunable = find_groups(graph)
    cost = footprint(graph, prunable.coupling, target.quantity)
    while True:
        batches = None if recovery is None else list(recovery.calibration())
        context = Context(graph.module, prunable.groups, batches, None if batches is None else loss, config.seed)
        scores = [normalize(score, config.normalize) for score in CRITERIA[config.criterion](context)]
        chosen = plan(prunable, scores, cost, goal, scope=config.scope, floor=config.floor, round_to=config.round_to)
        smaller = cut(graph, prunable.coupling, chosen.keep)
        if disagreement(graph, prunable.coupling, chosen.keep, smaller) <= TOLERANCE:
            return smaller, prunable.skipped
        prunable = _put_back(graph, prunable, chosen.keep)


def _put_back(graph: ModelGraph, prunable: Prunable, keep: np.ndarray) -> Prunable:
    """`prunable` without the groups whose own part of the cut is wrong."""
    wrong = {index for index in range(len(prunable.groups)) if not _is_right(graph, prunable, index, keep)}
    if not wrong:  # each is right by itself, but not all together: none can be trusted
        wrong = set(range(len(prunable.groups)))
    reason = "cutting it changes what the model computes from the channels that stay"
    right = [index for index in range(len(prunable.groups)) if index not in wrong]
    return replace(
        prunable,
        groups=tuple(prunable.groups[index] for index in right),
        classes=tuple(prunable.classes[index] for index in right),
        skipped=(*prunable.skipped, *(Skipped(prunable.groups[index].name, reason) for index in sorted(wrong))),
    )


def _is_right(graph: ModelGraph, prunable: Prunable, index: int, keep: np.ndarray) -> bool:
    alone = np.ones_like(keep)
    alone[prunable.classes[index]] = keep[prunable.classes[index]]
    return disagreement(graph, prunable.coupling, alone, cut(graph, prunable.coupling, alone)) <= TOLERANCE


def _sparsify(graph: ModelGraph, recovery: Recovery | None, config: PruneConfig, progress: Progress) -> PruneResult:
    """Zero weights by magnitude, and train the others with the zeros held."""
    assert config.sparsity is not None
    progress.stage("cut")
    module = copy.deepcopy(graph.module)
    masks = find_masks(module, config.sparsity, config.pattern)
    apply_masks(module, masks)
    sparser = graph.with_module(module)
    history: tuple[EpochRecord, ...] = ()
    if recovery is not None:
        recovery.renew_norms(sparser)
        history = recovery.train(sparser, phase=0, phases=1, after_step=lambda _: apply_masks(module, masks))
    weights = sparse_weights(module)
    reached = 1 - sum(int(weight.count_nonzero()) for weight in weights.values()) / sum(weight.numel() for weight in weights.values())
    whole = tuple(Skipped(name, f"its inputs are no multiple of what pattern {config.pattern} needs") for name in weights if name not in masks)
    return PruneResult(sparser, reached, config.sparsity, abs(reached - config.sparsity) <= CLOSE, whole, history)
