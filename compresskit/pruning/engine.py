"""The pruning engine: a graph in, a smaller graph out.

          ┌─────────────────────────── once a step ───────────────────────────┐
graph ──► find groups ─► score ─► plan ─► cut and check ─► compensate ─► train ──► smaller graph
                           ▲        ▲           │
                           │        └─ measure ◄┘ (a latency that was predicted)
                           └── a criterion (method classic), masks learned under a surrogate of the cost (l1l2), or a saliency before training
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import fx

from compresskit.data import Dataset
from compresskit.errors import InputError, TargetError
from compresskit.models.graph import ModelGraph
from compresskit.models.latency_table import Table as LatencyTable
from compresskit.progress import SILENT, Progress
from compresskit.pruning.at_init import narrowest, reinit, rescale
from compresskit.pruning.at_init.choice import share_of_weights
from compresskit.pruning.compensation import compensate
from compresskit.pruning.config import PruneConfig
from compresskit.pruning.criteria import CRITERIA
from compresskit.pruning.goal import Goal, set_goal
from compresskit.pruning.groups import find_groups
from compresskit.pruning.recovery import Checkpointing, Recovery
from compresskit.pruning.scoring import Scored, Scorer, by_criterion, by_saliency, check_method, choose_by_saliency
from compresskit.pruning.sparsity import apply_masks, find_masks, sparse_weights
from compresskit.pruning.step import Cut, Layout, cut_to, cut_to_measure, floored
from compresskit.pruning.surrogate.learn import Learned, learn
from compresskit.pruning.target import CLOSE, staying
from compresskit.report import LatencyTry, SearchPoint, Skipped
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
        notes: what came otherwise than was asked for.
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
    notes: tuple[str, ...] = ()


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
    config = config.settled()
    check_method(config, data=data is not None)
    recovery = None if data is None else Recovery(graph, data, config, torch.device(device), checkpointing, progress)
    if config.sparse:
        return _sparsify(graph, recovery, config, progress)
    assert config.target is not None
    return _shrink(graph, recovery, config, set_goal(graph, config.target, table, progress), progress)


def _shrink(graph: ModelGraph, recovery: Recovery | None, config: PruneConfig, goal: Goal, progress: Progress) -> PruneResult:
    """Cut channels in `config.steps` steps, each by the same factor, with recovery after each."""
    widths: dict[str, int] = {}
    graph, history = _prepared(graph, recovery, config)
    learned = _learned(graph, recovery, config, goal) if config.learns and recovery is not None else None
    if learned is not None:
        graph, history = learned.graph, learned.history
    score, notes = _scorer(config, recovery, learned, progress), dict[str, None]()
    step: Cut | None = None
    for phase in reversed(range(config.steps)):
        progress.stage("cut")
        limit = goal.whole * (goal.limit / goal.whole) ** ((config.steps - phase) / config.steps)
        before = graph if step is None else step.graph
        try:
            step = _cut(before, recovery, config, goal, goal.limit if phase == 0 else limit, widths, score, progress)
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
    """Masks on all channels, trained from the criterion's scores to the target; None where nothing can be masked."""
    prunable = find_groups(graph)
    if not prunable.groups:
        return None
    cost, floors = goal.cost(prunable), [staying(config.floor or 0.0, group.size) for group in prunable.groups]
    start = by_criterion(config, recovery)(prunable, cost, goal.limit).scores
    return learn(prunable, start, cost, goal.limit, floors, recovery)


def _scorer(config: PruneConfig, recovery: Recovery | None, learned: Learned | None, progress: Progress) -> Scorer:
    if learned is not None:
        return lambda *_: Scored(learned.scores)
    if config.salient:
        return by_saliency(config, None if recovery is None else recovery.data, progress)
    return by_criterion(config, recovery)


def _cut(
    graph: ModelGraph,
    recovery: Recovery | None,
    config: PruneConfig,
    goal: Goal,
    limit: float,
    widths: dict[str, int],
    score: Scorer,
    progress: Progress,
) -> Cut:
    """Score, plan and cut to `limit`, and let the channels that stay take over from those that go.

    Args:
        widths: of every group before the first step, by name; filled in here.
    """
    prunable = find_groups(graph)
    cost = goal.cost(prunable)
    scored = score(prunable, cost, limit)
    floor = config.floor or 0.0
    scores = [floored(found, floor, widths.setdefault(group.name, group.size)) for group, found in zip(prunable.groups, scored.scores, strict=True)]
    make = partial(cut_to, prunable, scores, cost, Layout(config.scope or "global", floor, _multiples(config, goal)))
    made = cut_to_measure(make, goal, progress) if goal.measurable and limit == goal.limit else make(limit)
    if config.salient:
        lone = (f"{name} is down to its last channel" for name in narrowest(prunable, made.keep))
        made = replace(made, notes=(*scored.notes, *lone))
    if config.init:
        return replace(made, graph=_fresh(prunable.graph, made.graph, config))
    if recovery is not None:
        compensate(prunable.graph, prunable.coupling, made.keep, made.graph, recovery.calibration())
    return made


def _fresh(before: ModelGraph, after: ModelGraph, config: PruneConfig) -> ModelGraph:
    """`after`, cut from the untrained `before`, with its weights scaled or drawn anew where that was asked for."""
    scaled = rescale(before, after) if config.rescale else after
    return reinit(scaled, config.seed) if config.reinit else scaled


def _multiples(config: PruneConfig, goal: Goal) -> tuple[int, ...]:
    if config.round_to is not None:
        return (config.round_to,)
    if goal.table is not None:
        return LATENCY_MULTIPLES
    return LEARNED_MULTIPLES if config.learns else MULTIPLES


def _sparsify(graph: ModelGraph, recovery: Recovery | None, config: PruneConfig, progress: Progress) -> PruneResult:
    """Zero weights, by magnitude or by a saliency, and train the others with the zeros held."""
    module = copy.deepcopy(graph.module)
    asked = _asked_sparsity(module, config)
    progress.stage("cut")
    notes: tuple[str, ...] = ()
    if config.salient:
        choice, notes = choose_by_saliency(graph.with_module(module), 1 - asked, config, None if recovery is None else recovery.data, progress)
        masks = choice.masks
    else:
        masks = find_masks(module, asked, config.pattern)
    apply_masks(module, masks)
    sparser = graph.with_module(module)
    history: tuple[EpochRecord, ...] = ()
    if recovery is not None:
        recovery.renew_norms(sparser)
        history = recovery.train(sparser, phase=0, phases=1, after_step=lambda _: apply_masks(module, masks))
    weights = sparse_weights(module)
    whole = tuple(
        Skipped(name, f"the number of its inputs is not a multiple of what pattern {config.pattern} needs") for name in weights if name not in masks
    )
    met = _sparsity({name: weights[name] for name in masks}) >= asked - CLOSE
    if config.target is None:
        return PruneResult(sparser, _sparsity(weights), asked, met, skipped=whole, history=history, notes=notes)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    gone = sum(int((~mask).sum()) for mask in masks.values())
    return PruneResult(sparser, 1 - gone / parameters, config.target.limit(parameters) / parameters, met, history=history, notes=notes)


def _asked_sparsity(module: fx.GraphModule, config: PruneConfig) -> float:
    """The fraction of the weights that is to go."""
    if config.target is None:
        assert config.sparsity is not None
        return config.sparsity
    return 1 - share_of_weights(module, config.target.limit(sum(parameter.numel() for parameter in module.parameters())))


def _sparsity(weights: Mapping[str, torch.Tensor]) -> float:
    return 1 - sum(int(weight.count_nonzero()) for weight in weights.values()) / sum(weight.numel() for weight in weights.values())
