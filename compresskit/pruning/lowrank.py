"""Ranks: how much each direction of a layer matters for what it costs, and the model with the layers factorized that gain by it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from compresskit.errors import TargetError
from compresskit.models.graph import ModelGraph
from compresskit.progress import SILENT, Progress
from compresskit.pruning.blocks import BLOCKS, open_blocks
from compresskit.pruning.compensation import Moments, fits, gather
from compresskit.pruning.factors import Factors, decompose, factorize
from compresskit.pruning.footprint import Cost
from compresskit.pruning.goal import Goal
from compresskit.pruning.groups import Prunable
from compresskit.pruning.recovery import Recovery
from compresskit.pruning.step import Cut, Layout, cut_to_measure, floored, plan_to
from compresskit.report import Skipped


@dataclass(frozen=True)
class Directions:
    """The singular directions of all layers whose ranks are open.

    Attributes:
        factors: by layer.
        scores: (rank,) a layer, as `direction_scores` has them: comparable between layers.
        moments: of the inputs of layers that could be watched.
    """

    factors: dict[str, Factors]
    scores: tuple[Tensor, ...]
    moments: dict[str, Moments]


def directions_of(prunable: Prunable, cost: Cost, recovery: Recovery | None) -> Directions:
    """Decompose every layer whose rank is open; for the inputs that it has, where there are data."""
    moments = moments_of(prunable.graph, prunable.ranks, recovery)
    factors = factors_of(prunable.graph, prunable.ranks, moments)
    return Directions(factors, tuple(direction_scores(prunable, cost, factors)), moments)


def factors_of(graph: ModelGraph, layers: Iterable[str], moments: Mapping[str, Moments]) -> dict[str, Factors]:
    """The directions of each layer; for the inputs that it was seen to have, where it was.

    Raises:
        InputError: a layer is not finite.
    """
    return {layer: decompose(graph.module.get_parameter(f"{layer}.weight"), moments.get(layer)) for layer in layers}


def moments_of(graph: ModelGraph, layers: Iterable[str], recovery: Recovery | None) -> dict[str, Moments]:
    """Moments of the inputs of those of the layers that can be watched; none without data."""
    watched = [layer for layer in layers if fits(graph.module.get_submodule(layer))]
    return gather(graph.module, watched, recovery.calibration()) if recovery is not None and watched else {}


def lower_ranks(cut: Cut, goal: Goal, layout: Layout, recovery: Recovery | None, progress: Progress = SILENT) -> Cut:
    """Let ranks of the layers of `cut.graph` fall, those first whose directions matter least for what they cost, until the cost is at the limit.

    Where that is a latency of this machine, until it is measured there.
    """
    prunable = open_blocks(_settled(cut.graph, recovery), ("lowrank",))
    cost = goal.cost(prunable)
    found = directions_of(prunable, cost, recovery)
    held = [floored(score, layout.floor, len(score)) for score in found.scores]
    plan = partial(plan_to, prunable, held, cost, replace(layout, scope="global"))
    closed = BLOCKS["lowrank"].open(prunable).closed
    skipped = (*cut.skipped, *(Skipped(layer, reason) for layer, reason in closed.items()))  # of widths, `cut` has said why they stay

    def make(limit: float) -> Cut:
        chosen = plan(limit)
        least = chosen.reached if chosen.met else plan(0.0).reached
        graph = factorize(prunable.graph, paying(prunable, cost, chosen.keep), found.moments)
        return replace(cut, graph=graph, skipped=skipped, reached=chosen.reached, least=least)

    try:
        return cut_to_measure(make, goal, progress) if goal.measurable else make(goal.limit)
    except TargetError:
        return replace(cut, skipped=skipped)


def lowered(cut: Cut, ranks: Mapping[str, int], recovery: Recovery | None) -> Cut:
    """`cut` with its layers factorized to `ranks`."""
    graph = _settled(cut.graph, recovery)
    return replace(cut, graph=factorize(graph, ranks, moments_of(graph, ranks, recovery)))


def paying(prunable: Prunable, cost: Cost, keep: np.ndarray) -> dict[str, int]:
    """The ranks of those layers that cost less as factors than as they are, where the classes of `keep` stay."""
    ranks = {}
    for layer, labels in prunable.ranks.items():
        dense = keep.copy()
        dense[labels] = True
        if cost(dense) > cost(keep):
            ranks[layer] = int(keep[labels].sum())
    return ranks


def direction_scores(prunable: Prunable, cost: Cost, factors: Mapping[str, Factors]) -> list[Tensor]:
    """What each direction of each open rank carries of its layer's outputs, for every unit of cost that it takes: (rank,) each.

    A rank has to fall a long way before a layer costs less. All directions that have to go for the first gain that is worth most
    get one score, so that scores rise along the lower convex hull of what is lost over what is gained.
    """
    whole = np.ones(prunable.coupling.classes, dtype=bool)
    return [_scores(factors[layer].energy.double(), _gains(cost, whole, labels)) for layer, labels in prunable.ranks.items()]


def _gains(cost: Cost, whole: np.ndarray, labels: np.ndarray) -> Tensor:
    """What is gained with the last 1 .. rank - 1 directions gone."""
    keep, gains = whole.copy(), []
    for label in labels[:0:-1]:
        keep[label] = False
        gains.append(cost.whole - cost(keep))
    return torch.tensor(gains, dtype=torch.float64)


def _scores(energy: Tensor, gains: Tensor) -> Tensor:
    """Of directions with `energy` (rank,), falling, of which the last 1 .. rank - 1 can go for `gains`."""
    lost = (energy.flip(0).cumsum(0) / energy.sum().clamp(min=torch.finfo(torch.float32).tiny))[:-1]
    ratios = torch.where(gains > 0, lost / gains, torch.inf)
    if not len(ratios) or ratios.isinf().all():
        return torch.full_like(energy, torch.inf)
    first = int(ratios.argmin())
    scores = torch.cat([ratios[first].expand(first + 1), lost.diff()[first:] / gains.diff()[first:], ratios.new_full((1,), torch.inf)])
    return scores.flip(0)


def _settled(graph: ModelGraph, recovery: Recovery | None) -> ModelGraph:
    """A copy whose norms fit what reaches them."""
    graph = graph.with_module(copy.deepcopy(graph.module))
    if recovery is not None:
        recovery.renew_norms(graph)
    return graph
