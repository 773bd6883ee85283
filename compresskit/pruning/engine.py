"""The pruning engine: a graph in, a smaller graph out.

          ┌─────────────────────────── once a step ───────────────────────────┐
graph ──► open blocks ─► score ─► plan ─► cut and check ─► compensate ─► train ──► smaller graph
                           ▲        ▲           │          and factorize
                           │        └─ measure ◄┘ (a latency that was predicted)
                           └── a criterion (method classic), masks learned under a surrogate of the cost (l1l2), or a saliency before training
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from compresskit.data import Dataset
from compresskit.errors import InputError, TargetError
from compresskit.models.graph import ModelGraph
from compresskit.models.latency_table import Table as LatencyTable
from compresskit.progress import SILENT, Progress
from compresskit.pruning.blocks import check_blocks, open_blocks
from compresskit.pruning.config import PruneConfig
from compresskit.pruning.criteria import CRITERIA
from compresskit.pruning.cutter import Cutter
from compresskit.pruning.goal import Goal, set_goal
from compresskit.pruning.lowrank import directions_of
from compresskit.pruning.recovery import Recovery
from compresskit.pruning.result import PruneResult
from compresskit.pruning.scoring import Scored, Scorer, by_criterion, by_saliency, check_method
from compresskit.pruning.sparsify import sparsify
from compresskit.pruning.step import Cut
from compresskit.pruning.surrogate.learn import Learned, learn
from compresskit.pruning.target import CLOSE, staying
from compresskit.training.state import EpochRecord
from compresskit.training.tuning import Checkpointing


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
        UsageError: the criterion needs data that are not there; settings that contradict each other; a block that the model does not have.
        GuardError: training diverged.
        InputError: the data do not fit the model, or its batch is baked in and it is to be trained.
    """
    if data is not None and not graph.free_batch:
        raise InputError(f"{graph.source}: its batch of {graph.inputs[0].shape[0]} is baked in, so it cannot be trained: leave out --data")
    config = config.settled(data=data is not None)
    check_method(config, data=data is not None)
    check_blocks(graph, config.blocks)
    recovery = None if data is None else Recovery(graph, data, config, torch.device(device), checkpointing, progress)
    if config.sparse:
        return sparsify(graph, recovery, config, progress)
    assert config.target is not None
    return _shrink(graph, recovery, config, set_goal(graph, config.target, table, progress, config.blocks), progress)


def _shrink(graph: ModelGraph, recovery: Recovery | None, config: PruneConfig, goal: Goal, progress: Progress) -> PruneResult:
    """Cut channels in `config.steps` steps, each by the same factor, with recovery after each."""
    graph, history = _prepared(graph, recovery, config)
    learned = _learned(graph, recovery, config, goal) if config.learns and recovery is not None else None
    if learned is not None:
        graph, history = learned.graph, learned.history
    cutter, notes = Cutter(config, goal, _scorer(config, recovery, learned, progress), recovery, progress), dict[str, None]()
    step: Cut | None = None
    for phase in reversed(range(config.steps)):
        progress.stage("cut")
        limit = goal.whole * (goal.limit / goal.whole) ** ((config.steps - phase) / config.steps)
        before = graph if step is None else step.graph
        try:
            step = cutter(before, goal.limit if phase == 0 else limit)
        except TargetError:
            if step is None:
                raise
            step = replace(step, least=step.reached)  # the steps before have cut all that may be cut
        if phase == 0 and step.reached >= goal.whole:
            target = goal.target
            raise TargetError(
                f"nothing was cut: no cut of whole channels comes nearer to --{target.quantity} {target.value:g} than the model as it is"
            )
        notes |= dict.fromkeys(step.notes)
        if recovery is not None:
            recovery.renew_norms(step.graph)
            history += recovery.train(step.graph, phase=phase, phases=config.steps)
    assert step is not None
    result = _result(step, goal, history)
    return replace(result, path=learned.path if learned else (), notes=tuple(notes))


def _result(step: Cut, goal: Goal, history: tuple[EpochRecord, ...]) -> PruneResult:
    met = abs(step.reached - goal.limit) <= CLOSE * goal.limit if step.met is None else step.met
    return PruneResult(
        step.graph,
        step.reached / goal.whole,
        goal.limit / goal.whole,
        met,
        out_of_reach=not met and step.least > goal.limit,
        skipped=step.skipped,
        history=history,
        tries=step.tries,
    )


def _prepared(graph: ModelGraph, recovery: Recovery | None, config: PruneConfig) -> tuple[ModelGraph, tuple[EpochRecord, ...]]:
    """The graph to begin with: trained for sparsity, where the criterion wants that and there are data."""
    penalty = CRITERIA[config.criterion].penalty
    if recovery is None or penalty is None or config.learns:
        return graph, ()
    graph = graph.with_module(copy.deepcopy(graph.module))
    return graph, recovery.slim(graph, penalty, phase=config.steps)


def _learned(graph: ModelGraph, recovery: Recovery, config: PruneConfig, goal: Goal) -> Learned | None:
    """Masks on all channels and ranks, trained from the criterion's scores to the target; None where nothing can be masked."""
    prunable = open_blocks(graph, config.blocks)
    if not prunable.groups:
        return None
    cost, floors = goal.cost(prunable), [staying(config.floor or 0.0, group.size) for group in prunable.groups]
    start = by_criterion(config, recovery)(prunable, cost, goal.limit).scores
    return learn(prunable, start, cost, goal.limit, floors, recovery, directions_of(prunable, cost, recovery))


def _scorer(config: PruneConfig, recovery: Recovery | None, learned: Learned | None, progress: Progress) -> Scorer:
    if learned is not None:
        return lambda *_: Scored(learned.scores)
    if config.salient:
        return by_saliency(config, None if recovery is None else recovery.data, progress)
    return by_criterion(config, recovery)
