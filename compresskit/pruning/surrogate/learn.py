"""Widths and ranks learned from data: masks that begin as a criterion ranks the channels, and end as scores for the cut.

The weights that were trained with the masks are left behind. The cut refits the original ones by least squares, and training gets further
from there: on part of CIFAR-10, 0.9 to 2.6 points further with ResNet-20 at a third of its MACs than from the masked network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from compresskit.models.graph import ModelGraph
from compresskit.pruning.footprint import Cost
from compresskit.pruning.groups import Prunable
from compresskit.pruning.lowrank import Directions
from compresskit.pruning.recovery import Recovery
from compresskit.pruning.surrogate.control import Control
from compresskit.pruning.surrogate.cost import Surrogate
from compresskit.pruning.surrogate.masks import Masked, parameter_groups
from compresskit.pruning.surrogate.norms import NORMS
from compresskit.report import SearchPoint
from compresskit.training.state import EpochRecord

LOWEST = 0.2  # of the masks to begin with; the highest is near 1
BESIDE_RANKS = 0.6  # the lowest of channels, where ranks are open too: those have to fall a long way before they pay, and need a lead
TRAVEL = 0.25  # learning rate of the masks times the steps of the search, for any optimizer: further, noise decides; less far, the loss has no say
POINTS = 64  # of the path that is reported


@dataclass(frozen=True)
class Learned:
    """What the masks say.

    Attributes:
        graph: what was scored, its weights as they were.
        scores: (size,) a group; 0 for a channel or direction that is gone, 1 for the channel that matters most in its group, and the mask of a
            direction, which says as much in one layer as in another.
        history: of the training.
        path: of lambda and of the cost.
    """

    graph: ModelGraph
    scores: tuple[Tensor, ...]
    history: tuple[EpochRecord, ...]
    path: tuple[SearchPoint, ...]


def learn(
    prunable: Prunable,
    scores: Sequence[Tensor],
    cost: Cost,
    goal: float,
    floors: Sequence[int],
    recovery: Recovery,
    directions: Directions,
) -> Learned:
    """Train a copy of the network of `prunable` and masks on its channels and ranks until those alive cost `goal`.

    Args:
        scores: one tensor (size,) a group of channels, which says where the masks begin; larger where a channel matters more.
        floors: number of channels or directions of each group that stay at least.
        directions: of the layers whose ranks are open.

    Raises:
        GuardError: training diverged.
    """
    surrogate = Surrogate(prunable, cost, recovery.device)
    steps = recovery.search_steps()
    rate = TRAVEL / steps
    lowest = BESIDE_RANKS if prunable.ranks else LOWEST
    start = torch.cat([*(starting(score, lowest) for score in scores), *starting_ranks(directions.scores)])
    masked = Masked(prunable, start, torch.zeros(min(POINTS, steps), 3), directions.factors)
    after_step = Control(masked, surrogate, NORMS["l1l2"], goal, torch.tensor(floors, device=recovery.device), steps, rate)
    history = recovery.search(masked, parameter_groups(masked, rate), after_step)
    parts = masked.mask.detach().split([group.size for group in prunable.groups])
    channels = [part / part.max() for part in parts[: len(scores)]]
    return Learned(prunable.graph, (*channels, *parts[len(scores) :]), history, path_of(masked.log) if history else ())


def starting(scores: Tensor, lowest: float = LOWEST) -> Tensor:
    """Masks from the scores of one group, (size,): evenly spaced in the order of the scores, as masks of ones would have no gradient.

    Ranks, because every criterion has a scale of its own, and because no mask may begin so small that noise decides about it.
    """
    ranks = scores.argsort(stable=True).argsort()
    return lowest + (1 - lowest) * (ranks + 0.5) / len(scores)


def starting_ranks(scores: Sequence[Tensor]) -> list[Tensor]:
    """Masks from the scores of the directions of all layers, (rank,) each: evenly spaced in the order of all of them.

    So they begin where the scores would end, and training decides on top of that. Of equal scores, the later one goes first.
    """
    if not scores:
        return []
    backwards = starting(torch.cat([score.flip(0) for score in scores]))
    return [part.flip(0) for part in backwards.split([len(score) for score in scores])]


def path_of(log: Tensor) -> tuple[SearchPoint, ...]:
    """What a control noted, as it is reported."""
    return tuple(SearchPoint((number + 1) / len(log), *values) for number, values in enumerate(log.tolist()))
