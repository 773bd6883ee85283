"""Hitting a target: which channels to cut so that MACs, parameters or bytes come out at what was asked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from compresskit.errors import TargetError
from compresskit.pruning.footprint import Cost
from compresskit.pruning.groups import Prunable

CLOSE = 0.01  # a target counts as hit within this fraction of it
NEAR = CLOSE / 4  # and this close, nothing better is looked for


@dataclass(frozen=True)
class Plan:
    """A choice of classes.

    Attributes:
        keep: (classes,) bool.
        reached: what the model costs after the cut.
        met: whether that is within 1% of the limit; if not, it is the nearest that was found.
    """

    keep: np.ndarray
    reached: float
    met: bool


def plan(
    prunable: Prunable, scores: Sequence[torch.Tensor], cost: Cost, limit: float, *, scope: str = "global", floor: float = 0.0, round_to: int = 1
) -> Plan:
    """Cut the least important channels until the cost is at `limit`.

    Args:
        scores: one tensor (size,) a group; bigger is more important, and infinite ones are never cut.
        scope: "global" takes scores as comparable between groups, "layer" cuts the same fraction from each.
        floor: smallest fraction of any group that stays.
        round_to: cut so that what stays of a group is a multiple of this, where the group is wide enough.

    Raises:
        TargetError: nothing at all can be cut.
    """
    if not prunable.groups:
        reasons = "; ".join(f"{skipped.group}: {skipped.reason}" for skipped in prunable.skipped[:3])
        raise TargetError(f"nothing can be cut from this model: {reasons or 'no layer has channels'}")
    units = _survivable(prunable, _units(prunable, scores, scope, floor, round_to))
    if not units:
        raise TargetError("nothing can be cut from this model: floor, rounding and criterion keep every channel; lower --floor or --round-to")
    keep = np.ones(prunable.coupling.classes, dtype=bool)
    reached = _approach(cost, keep, units, limit)
    return Plan(keep, reached, abs(reached - limit) <= CLOSE * limit)


def staying(floor: float, width: int) -> int:
    """How many of `width` channels `floor` keeps."""
    return max(1, math.ceil(floor * width - 1e-9))  # 0.1 * 30 is above 3


def _units(prunable: Prunable, scores: Sequence[torch.Tensor], scope: str, floor: float, round_to: int) -> list[np.ndarray]:
    """What is cut at once, least important first: single channels, or as many as keep a width a multiple."""
    entries: list[tuple[float, int, np.ndarray]] = []
    for classes, score in zip(prunable.classes, scores, strict=True):
        values = score.detach().double().cpu().numpy()
        order = np.argsort(values, kind="stable")
        size = len(order)
        cuttable = min(size - staying(floor, size), int(np.isfinite(values).sum()))
        step = round_to if size > round_to else 1
        bounds = [0, *range(size % step or step, cuttable + 1, step)]
        for start, stop in itertools.pairwise(bounds):
            value = stop / size if scope == "layer" else float(values[order[start:stop]].mean())
            entries.append((value, len(entries), classes[order[start:stop]]))
    return [unit for _, _, unit in sorted(entries, key=lambda entry: entry[:2])]


def _survivable(prunable: Prunable, units: list[np.ndarray]) -> list[np.ndarray]:
    """Those of `units` that can all go, the earlier ones first, without any dimension of any tensor losing its last channel."""
    within: list[list[int]] = [[] for _ in range(prunable.coupling.classes)]
    for index, labels in enumerate(prunable.dimensions):
        for label in labels.tolist():
            within[label].append(index)
    left = np.array([len(labels) for labels in prunable.dimensions])
    chosen = []
    for unit in units:
        touched, loss = np.unique([index for label in unit.tolist() for index in within[label]], return_counts=True)
        if (left[touched] > loss).all():
            left[touched] -= loss
            chosen.append(unit)
    return chosen


def _approach(cost: Cost, keep: np.ndarray, units: list[np.ndarray], limit: float) -> float:
    """Cut from `keep` (in place) as many of `units` as stay above `limit`, then whichever later ones still fit, then the one that ends nearest."""
    low, high = 0, len(units)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(_without(keep, units[:middle])) >= limit else (low, middle - 1)
    keep[:] = _without(keep, units[:low])
    reached, over = cost(keep), []
    for unit in units[low:]:
        if reached <= limit * (1 + NEAR):
            return reached
        after = cost(smaller := _without(keep, [unit]))
        if after >= limit * (1 - NEAR):
            keep[:], reached = smaller, after
        else:
            over.append(unit)
    ends = [cost(_without(keep, [unit])) for unit in over]
    best = int(np.argmin(np.abs(np.array(ends) - limit))) if ends else 0
    if ends and abs(ends[best] - limit) < abs(reached - limit):
        keep[:], reached = _without(keep, [over[best]]), ends[best]
    return reached


def _without(keep: np.ndarray, units: Sequence[np.ndarray]) -> np.ndarray:
    result = keep.copy()
    if len(units):
        result[np.concatenate(units)] = False
    return result
