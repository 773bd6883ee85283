"""One cut: plan it to a limit, make it, prove that it is right, and where latency counts, measure it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from typing import Literal

import numpy as np
import torch

from compresskit.errors import TargetError
from compresskit.models.graph import ModelGraph
from compresskit.progress import SILENT, Progress
from compresskit.pruning.cut import TOLERANCE, cut, disagreement
from compresskit.pruning.footprint import Cost
from compresskit.pruning.goal import Goal
from compresskit.pruning.groups import Prunable
from compresskit.pruning.latency_search import closest
from compresskit.pruning.target import CLOSE, Plan, plan, staying
from compresskit.report import LatencyTry, Skipped

WRONG = "cutting it changes what the model computes from the channels that stay"


@dataclass(frozen=True)
class Layout:
    """Which widths a plan may leave.

    Attributes:
        scope: "global" takes scores as comparable between groups, "layer" cuts the same fraction from each.
        floor: smallest fraction of any group that stays.
        multiples: of channels, in the order in which they are tried.
    """

    scope: Literal["global", "layer"]
    floor: float
    multiples: tuple[int, ...]


@dataclass(frozen=True)
class Cut:
    """What was cut.

    Attributes:
        graph: what it left.
        keep: (classes,) bool, of the prunable model.
        skipped: groups that had to stay whole, and why.
        reached: cost of `graph`, as planned.
        least: what the cost would have been with everything gone that may go; `reached` where what was asked for is there.
        tries: of the search for a latency.
        met: whether the measured latency is near enough; None where none was measured.
        notes: what came otherwise than was asked for.
    """

    graph: ModelGraph
    keep: np.ndarray
    skipped: tuple[Skipped, ...]
    reached: float
    least: float
    tries: tuple[LatencyTry, ...] = ()
    met: bool | None = None
    notes: tuple[str, ...] = ()


def cut_to(prunable: Prunable, scores: Sequence[torch.Tensor], cost: Cost, layout: Layout, limit: float) -> Cut:
    """Cut the channels with the least `scores` so that `cost` comes to `limit`.

    A group whose cut does not equal its zeroing is put back, left whole and reported.

    Raises:
        TargetError: nothing can be cut, or nothing rightly.
    """
    scores, skipped = list(scores), prunable.skipped
    while True:
        search = partial(plan_to, prunable, scores, cost, layout)
        chosen = search(limit)
        smaller = cut(prunable.graph, prunable.coupling, chosen.keep)
        if disagreement(prunable.graph, prunable.coupling, chosen.keep, smaller) <= TOLERANCE:
            return Cut(smaller, chosen.keep, skipped, chosen.reached, chosen.reached if chosen.met else search(0.0).reached)
        for index in _wrong(prunable, chosen.keep):
            scores[index] = torch.full_like(scores[index], torch.inf)
            skipped = (*skipped, Skipped(prunable.groups[index].name, WRONG))
        if all(score.isinf().all() for score in scores):
            raise TargetError("nothing can be cut from this model: whatever is cut, it computes something else from the channels that stay")


def cut_to_measure(
    make: Callable[[float], Cut], goal: Goal, progress: Progress = SILENT, *, shape: Callable[[Cut], ModelGraph] = attrgetter("graph")
) -> Cut:
    """The cut, of those that `make` plans for a predicted latency, whose measured latency is nearest to the goal's limit.

    Args:
        shape: a graph of the widths and ranks that a cut will have in the end.

    Raises:
        CompresskitError: as `make`; the model cannot be exported.
    """

    def attempt(limit: float) -> tuple[Cut, float]:
        made = make(limit)
        return made, made.reached

    found = closest(attempt, goal.limit, whole_ms=goal.whole, measure=lambda made: goal.measured(shape(made)), progress=progress)
    reached = found.best.measured
    least = reached if found.met else goal.measured(shape(make(0.0)))
    return replace(found.plan, reached=reached, least=least, tries=found.tries, met=found.met)


def plan_to(prunable: Prunable, scores: Sequence[torch.Tensor], cost: Cost, layout: Layout, limit: float) -> Plan:
    """The plan at the first of the multiples that hits `limit`; at the last where none does."""
    *coarse, finest = layout.multiples
    search = partial(plan, prunable, scores, cost, limit, scope=layout.scope, floor=layout.floor)
    for multiple in coarse:
        with suppress(TargetError):
            chosen = search(round_to=multiple)
            if abs(chosen.reached - limit) <= CLOSE * limit:
                return chosen
    return search(round_to=finest)


def floored(scores: torch.Tensor, floor: float, width: int) -> torch.Tensor:
    """(size,) `scores` with infinity for the channels that `floor` keeps of the `width` before the first step; `plan` knows only what is left."""
    stay = min(len(scores), staying(floor, width))
    return scores if stay == 1 else scores.scatter(0, scores.topk(stay).indices, torch.inf)


def _wrong(prunable: Prunable, keep: np.ndarray) -> list[int]:
    """The groups whose own part of the cut is wrong; all that were cut where each is right by itself, but not all together."""
    involved = [index for index, classes in enumerate(prunable.classes) if not keep[classes].all()]
    return [index for index in involved if not _is_right(prunable, prunable.classes[index], keep)] or involved


def _is_right(prunable: Prunable, classes: np.ndarray, keep: np.ndarray) -> bool:
    alone = np.ones_like(keep)
    alone[classes] = keep[classes]
    smaller = cut(prunable.graph, prunable.coupling, alone)
    return disagreement(prunable.graph, prunable.coupling, alone, smaller) <= TOLERANCE
