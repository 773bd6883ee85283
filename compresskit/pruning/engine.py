"""The pruning engine: a graph in, a smaller graph out.

          ┌─────────────────────────── once a step ───────────────────────────┐
graph ──► find groups ─► score ─► plan ─► cut and check ─► compensate ─► train ──► smaller graph
                           ▲        ▲           │
                           │        └─ measure ◄┘ (a latency that was predicted)
                           └── masks learned under a surrogate of the cost (method l1l2), or a criterion (classic)
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch

from compresskit.data import Dataset
from compresskit.errors import InputError, TargetError, UsageError
from compresskit.models.graph import ModelGraph
from compresskit.models.latency_table import Table as LatencyTable
from compresskit.progress import SILENT, Progress
from compresskit.pruning.compensation import compensate
from compresskit.pruning.config import PruneConfig
from compresskit.pruning.criteria import CRITERIA, Context, normalize
from compresskit.pruning.goal import Goal, set_goal
from compresskit.pruning.groups import Prunable, find_groups
from compresskit.pruning.recovery import Checkpointing, Recovery
from compresskit.pruning.sparsity import apply_masks, find_masks, sparse_weights
from compresskit.pruning.step import Cut, Layout, cut_to, cut_to_measure, floored, staying
from compresskit.pruning.surrogate.learn import Learned, learn
from compresskit.pruning.target import CLOSE
from compresskit.report import LatencyTry, SearchPoint, Skipped
from compresskit.training.objectives import loss
from compresskit.training.state import EpochRecord

MULTIPLES = (8, 4, 2, 1)  # of channels, in the order in which they are tried: ONNX Runtime computes in blocks of 8 or 16
LATENCY_MULTIPLES = (8, 4)  # at widths between these, latency is no longer what a table of operators predicts
LEARNED_MULTIPLES = (2, 1)  # coarser ones undo what was learned: a stream of 16 channels that is to keep 11 would keep all


@dataclass(frozen=True)
class PruneResult:
    """What the engine made.

    Attributes:
        graph: the smaller (or sparser) model.
        reached: kept fraction of the quantity that the target names; removed fraction of the weights for sparsity.
        asked: the same, as it was asked for.
        met: whether what was asked for is there: a cut within 1% of the target (3% of a measured latency), or the sparsity of every layer
            that can take the pattern.
        out_of_reach: whether not even cutting all that may be cut would have been enough.
        skipped: what was left whole, and why.
        history: training, epoch by epoch.
        path: of the search for widths, where they were learned.
        tries: of the search for a latency.
    """

    graph: ModelGraph
    reached: float
    asked: float
    met: bool
    out_of_reach: bool = False
    skipped: tuple[Skipped, ...] = ()
    history: tuple[EpochRecord, ...] = ()
    path: tuple[SearchPoint, ...] = ()
    tries: tuple[LatencyTry, ...] = ()


def prune(
    graph: ModelGraph,
    data: Dataset | None,
    config: PruneConfig,
    *,
    device: torch.device | str = "cpu",
    table: LatencyTable | None = None,
    checkpointing: Checkpointing | None = None,
    progress: Progress = SILENT,
) -> PruneResult:
    """Prune `graph` to the target of `config`, and train it where there are data. `graph` itself is left as it was.

    Args:
        table: for a latency as target; None: measured here, with the threads that torch has, or as it was kept.

    Raises:
        TargetError: nothing at all can be cut, or not enough for a latency.
        UsageError: the criterion needs data that are not there; settings that contradict each other.
        GuardError: training diverged.
        InputError: the data do not fit the model, or its batch is baked in and it is to be trained.
    """
    if data is not None and not graph.free_batch:
        raise InputError(f"{graph.source}: its batch of {graph.inputs[0].shape[0]} is baked in, so it cannot be trained: leave out --data")
    recovery = None if data is None else Recovery(graph, data, config, torch.device(device), checkpointing, progress)
    if config.target is None:
        return _sparsify(graph, recovery, config, progress)
    return _shrink(graph, recovery, config, set_goal(graph, config.target, table, progress), progress)


def _shrink(graph: ModelGraph, recovery: Recovery | None, config: PruneConfig, goal: Goal, progress: Progress) -> PruneResult:
    """Cut channels in `config.steps` steps, each by the same factor, with recovery after each."""
    widths: dict[str, int] = {}
    graph, history = _prepared(graph, recovery, config)
    learned = _learned(graph, recovery, config, goal) if config.learns else None
    if learned is not None:
        graph, history = learned.graph, learned.history
    step: Cut | None = None
    for phase in reversed(range(config.steps)):
        progress.stage("cut")
        limit = goal.whole * (goal.limit / goal.whole) ** ((config.steps - phase) / config.steps)
        before = graph if step is None else step.graph
        try:
            step = _cut(before, recovery, config, goal, limit, widths, learned, progress)
        except TargetError:
            if step is None:
                raise
            step = replace(step, least=goal.size(step.graph))  # the steps before have cut all that may be cut
        if phase == 0 and goal.size(step.graph) >= goal.whole:
            target = goal.target
            raise TargetError(
                f"nothing was cut: no cut of whole channels comes nearer to --{target.quantity} {target.value:g} than the model as it is"
            )
        if recovery is not None:
            recovery.renew_norms(step.graph)
            history += recovery.train(step.graph, phase=phase, phases=config.steps)
    assert step is not None
    return _result(step, goal, history, learned.path if learned else ())


def _result(step: Cut, goal: Goal, history: tuple[EpochRecord, ...], path: tuple[SearchPoint, ...]) -> PruneResult:
    reached = step.reached if step.tries else goal.size(step.graph)
    met = abs(reached - goal.limit) <= CLOSE * goal.limit if step.met is None else step.met
    return PruneResult(
        step.graph,
        reached / goal.whole,
        goal.limit / goal.whole,
        met,
        out_of_reach=not met and step.least > goal.limit,
        skipped=step.skipped,
        history=history,
        path=path,
        tries=step.tries,
    )


def _prepared(graph: ModelGraph, recovery: Recovery | None, config: PruneConfig) -> tuple[ModelGraph, tuple[EpochRecord, ...]]:
    """The graph to begin with: trained for sparsity, where the criterion wants that and there are data."""
    penalty = CRITERIA[config.criterion].penalty
    if recovery is None or penalty is None or config.learns:
        return graph, ()
    graph = graph.with_module(copy.deepcopy(graph.module))
    return graph, recovery.slim(graph, penalty, phase=config.steps)


def _learned(graph: ModelGraph, recovery: Recovery | None, config: PruneConfig, goal: Goal) -> Learned | None:
    """Masks on all channels, trained from the criterion's scores to the target; None where nothing can be masked."""
    if recovery is None:
        raise UsageError("--method l1l2 learns from data: give --data, or --method classic")
    prunable = find_groups(graph)
    if not prunable.groups:
        return None
    floors = [staying(config.floor, group.size) for group in prunable.groups]
    return learn(prunable, _scores(prunable, recovery, config), goal.cost(prunable), goal.limit, floors, recovery)


def _cut(
    graph: ModelGraph,
    recovery: Recovery | None,
    config: PruneConfig,
    goal: Goal,
    limit: float,
    widths: dict[str, int],
    learned: Learned | None,
    progress: Progress,
) -> Cut:
    """Score, plan and cut to `limit`, and let the channels that stay take over from those that go.

    Args:
        widths: of every group before the first step, by name; filled in here.
        learned: whose scores stand in for the criterion's.
    """
    prunable = find_groups(graph)
    scores = [
        floored(score, config.floor, widths.setdefault(group.name, group.size))
        for group, score in zip(prunable.groups, learned.scores if learned else _scores(prunable, recovery, config), strict=True)
    ]
    # What masks say is comparable between groups.
    layout = Layout("global" if learned else config.scope, config.floor, _multiples(config, goal, learned))
    make = partial(cut_to, prunable, scores, goal.cost(prunable), layout)
    made = cut_to_measure(make, goal, progress) if goal.measurable and limit <= goal.limit else make(limit)
    if recovery is not None:
        compensate(prunable.graph, prunable.coupling, made.keep, made.graph, recovery.calibration())
    return made


def _multiples(config: PruneConfig, goal: Goal, learned: Learned | None) -> tuple[int, ...]:
    if config.round_to is not None:
        return (config.round_to,)
    if goal.table is not None:
        return LATENCY_MULTIPLES
    return LEARNED_MULTIPLES if learned else MULTIPLES


def _scores(prunable: Prunable, recovery: Recovery | None, config: PruneConfig) -> list[torch.Tensor]:
    criterion = CRITERIA[config.criterion]
    batches = list(recovery.calibration()) if recovery is not None and criterion.needs_data else None
    context = Context(prunable.graph.module, prunable.groups, batches, None if batches is None else loss, config.seed)
    return [normalize(score, config.normalize) for score in criterion(context)]


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
