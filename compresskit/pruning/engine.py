"""The pruning engine: a graph in, a smaller graph out.

          ┌─────────────────────────── once a step ───────────────────────────┐
graph ──► find groups ─► score ─► plan ─► cut and check ─► compensate ─► train ──► smaller graph
                           ▲
                           └── masks learned under a surrogate of the cost (method l1l2), or a criterion (classic)
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from compresskit.data import Dataset
from compresskit.errors import InputError, TargetError, UsageError
from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph
from compresskit.progress import SILENT, Progress
from compresskit.pruning.compensation import compensate
from compresskit.pruning.config import PruneConfig, Target
from compresskit.pruning.criteria import CRITERIA, Context, normalize
from compresskit.pruning.cut import TOLERANCE, cut, disagreement
from compresskit.pruning.groups import Prunable, find_groups
from compresskit.pruning.recovery import Checkpointing, Recovery
from compresskit.pruning.sparsity import apply_masks, find_masks, sparse_weights
from compresskit.pruning.surrogate.learn import Learned, learn
from compresskit.pruning.target import CLOSE, Footprint, Plan, footprint, plan
from compresskit.report import SearchPoint, Skipped
from compresskit.training.objectives import loss
from compresskit.training.state import EpochRecord

MULTIPLES = (8, 4, 2, 1)  # of channels, in the order in which they are tried: ONNX Runtime computes in blocks of 8 or 16
LEARNED_MULTIPLES = (2, 1)  # coarser ones undo what was learned: a stream of 16 channels that is to keep 11 would keep all


@dataclass(frozen=True)
class PruneResult:
    """What the engine made.

    Attributes:
        graph: the smaller (or sparser) model.
        reached: kept fraction of the quantity that the target names; removed fraction of the weights for sparsity.
        asked: the same, as it was asked for.
        met: whether what was asked for is there: a cut within 1% of the target, or the sparsity of every layer that can take the pattern.
        out_of_reach: whether not even cutting all that may be cut would have been enough.
        skipped: what was left whole, and why.
        history: training, epoch by epoch.
        path: of the search for widths, where they were learned.
    """

    graph: ModelGraph
    reached: float
    asked: float
    met: bool
    out_of_reach: bool = False
    skipped: tuple[Skipped, ...] = ()
    history: tuple[EpochRecord, ...] = ()
    path: tuple[SearchPoint, ...] = ()


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
    widths: dict[str, int] = {}
    graph, history = _prepared(graph, recovery, config)
    learned = _learned(graph, recovery, config, target, limit) if config.learns else None
    if learned is not None:
        graph, history = learned.graph, learned.history
        config = replace(config, scope="global")  # what masks say is comparable between groups
    step = _Step(graph, (), whole)
    for phase in reversed(range(config.steps)):
        progress.stage("cut")
        goal = whole * (limit / whole) ** ((config.steps - phase) / config.steps)
        try:
            step = _cut_checked(step.graph, recovery, config, target, goal, widths, learned)
        except TargetError:
            if step.graph is graph:
                raise
            step = replace(step, least=_size(step.graph, target))  # the steps before have cut all that may be cut
        if phase == 0 and _size(step.graph, target) >= whole:
            raise TargetError(
                f"nothing was cut: no cut of whole channels comes nearer to --{target.quantity} {target.value:g} than the model as it is"
            )
        if recovery is not None:
            recovery.renew_norms(step.graph)
            history += recovery.train(step.graph, phase=phase, phases=config.steps)
    reached = _size(step.graph, target)
    met = abs(reached - limit) <= CLOSE * limit
    path = learned.path if learned else ()
    return PruneResult(step.graph, reached / whole, limit / whole, met, not met and step.least > limit, step.skipped, history, path)


def _prepared(graph: ModelGraph, recovery: Recovery | None, config: PruneConfig) -> tuple[ModelGraph, tuple[EpochRecord, ...]]:
    """The graph to begin with: trained for sparsity, where the criterion wants that and there are data."""
    penalty = CRITERIA[config.criterion].penalty
    if recovery is None or penalty is None or config.learns:
        return graph, ()
    graph = graph.with_module(copy.deepcopy(graph.module))
    return graph, recovery.slim(graph, penalty, phase=config.steps)


def _learned(graph: ModelGraph, recovery: Recovery | None, config: PruneConfig, target: Target, limit: float) -> Learned | None:
    """Masks on all channels, trained from the criterion's scores to the target; None where nothing can be masked."""
    if recovery is None:
        raise UsageError("--method l1l2 learns from data: give --data, or --method classic")
    prunable = find_groups(graph)
    if not prunable.groups:
        return None
    cost = footprint(prunable.graph, prunable.coupling, target.quantity)
    floors = [_staying(config.floor, group.size) for group in prunable.groups]
    return learn(prunable, _scores(prunable, recovery, config), cost, limit, floors, recovery)


def _size(graph: ModelGraph, target: Target) -> float:
    cost = total(graph)
    return float({"flops": cost.macs, "params": cost.params, "size": cost.bytes}[target.quantity])


@dataclass(frozen=True)
class _Step:
    """One cut: what it left, what it had to leave whole, and the cost that cutting everything allowed would have left."""

    graph: ModelGraph
    skipped: tuple[Skipped, ...]
    least: float


def _cut_checked(
    graph: ModelGraph,
    recovery: Recovery | None,
    config: PruneConfig,
    target: Target,
    goal: float,
    widths: dict[str, int],
    learned: Learned | None = None,
) -> _Step:
    """Score, plan and cut. A group whose cut does not equal its zeroing is put back, left whole and reported.

    Args:
        widths: of every group before the first step, by name; filled in here.
        learned: whose scores stand in for the criterion's.
    """
    prunable = find_groups(graph)
    cost = footprint(prunable.graph, prunable.coupling, target.quantity)
    scores = [
        _floored(score, config.floor, widths.setdefault(group.name, group.size))
        for group, score in zip(prunable.groups, learned.scores if learned else _scores(prunable, recovery, config), strict=True)
    ]
    multiples = (LEARNED_MULTIPLES if learned else MULTIPLES) if config.round_to is None else (config.round_to,)
    search = partial(_planned, prunable, scores, cost, config, multiples)
    skipped = prunable.skipped
    while True:
        chosen = search(goal)
        smaller = cut(prunable.graph, prunable.coupling, chosen.keep)
        if disagreement(prunable.graph, prunable.coupling, chosen.keep, smaller) <= TOLERANCE:
            if recovery is not None:
                compensate(prunable.graph, prunable.coupling, chosen.keep, smaller, recovery.calibration())
            return _Step(smaller, skipped, chosen.reached if chosen.met else search(0.0).reached)
        for index in _wrong(prunable, chosen.keep):
            scores[index] = torch.full_like(scores[index], torch.inf)
            skipped = (*skipped, Skipped(prunable.groups[index].name, "cutting it changes what the model computes from the channels that stay"))
        if all(score.isinf().all() for score in scores):
            raise TargetError("nothing can be cut from this model: whatever is cut, it computes something else from the channels that stay")


def _planned(prunable: Prunable, scores: list[torch.Tensor], cost: Footprint, config: PruneConfig, multiples: Sequence[int], goal: float) -> Plan:
    """The plan at the first of `multiples` that hits `goal`; at the last where none does."""
    *coarse, finest = multiples
    search = partial(plan, prunable, scores, cost, goal, scope=config.scope, floor=config.floor)
    for multiple in coarse:
        with suppress(TargetError):
            chosen = search(round_to=multiple)
            if abs(chosen.reached - goal) <= CLOSE * goal:
                return chosen
    return search(round_to=finest)


def _scores(prunable: Prunable, recovery: Recovery | None, config: PruneConfig) -> list[torch.Tensor]:
    criterion = CRITERIA[config.criterion]
    batches = list(recovery.calibration()) if recovery is not None and criterion.needs_data else None
    context = Context(prunable.graph.module, prunable.groups, batches, None if batches is None else loss, config.seed)
    return [normalize(score, config.normalize) for score in criterion(context)]


def _floored(scores: torch.Tensor, floor: float, width: int) -> torch.Tensor:
    """(size,) `scores` with infinity for the channels that `floor` keeps of the `width` before the first step; `plan` knows only what is left."""
    staying = min(len(scores), _staying(floor, width))
    return scores if staying == 1 else scores.scatter(0, scores.topk(staying).indices, torch.inf)


def _staying(floor: float, width: int) -> int:
    return max(1, math.ceil(floor * width - 1e-9))  # 0.1 * 30 is above 3


def _wrong(prunable: Prunable, keep: np.ndarray) -> list[int]:
    """The groups whose own part of the cut is wrong; all that were cut where each is right by itself, but not all together."""
    involved = [index for index, classes in enumerate(prunable.classes) if not keep[classes].all()]
    return [index for index in involved if not _is_right(prunable, prunable.classes[index], keep)] or involved


def _is_right(prunable: Prunable, classes: np.ndarray, keep: np.ndarray) -> bool:
    alone = np.ones_like(keep)
    alone[classes] = keep[classes]
    smaller = cut(prunable.graph, prunable.coupling, alone)
    return disagreement(prunable.graph, prunable.coupling, alone, smaller) <= TOLERANCE


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
    able = {name: weight for name, weight in weights.items() if name in masks}
    whole = tuple(
        Skipped(name, f"the number of its inputs is not a multiple of what pattern {config.pattern} needs") for name in weights if name not in masks
    )
    met = _sparsity(able) >= config.sparsity - CLOSE
    return PruneResult(sparser, _sparsity(weights), config.sparsity, met, skipped=whole, history=history)


def _sparsity(weights: Mapping[str, torch.Tensor]) -> float:
    return 1 - sum(int(weight.count_nonzero()) for weight in weights.values()) / sum(weight.numel() for weight in weights.values())
