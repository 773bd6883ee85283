"""Compute awareness: what a channel matters for each multiplication that it costs (the thesis's section 3.2.2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from compresskit.errors import UsageError
from compresskit.pruning.footprint import Cost
from compresskit.pruning.groups import Prunable

SMOOTHING = 0.05  # the lambda of table 3.2


def compute_aware(prunable: Prunable, cost: Cost, scores: Sequence[Tensor], smoothing: float = SMOOTHING) -> list[Tensor]:
    """Channel scores divided by the groups' smoothed share of the cost: eq. 3.5, with eq. 3.4's shares.

    A group's cost is what one of its channels would save, the reading layers' part included: `marginal_costs`, averaged over the group.
    Shares sum to one; `smoothing` is added to each and they are brought back to that sum, so that a large one leaves the scores'
    order as it is. (Algorithm 2 adds it to the counts themselves, where 0.05 would do nothing.)

    Args:
        scores: one tensor (size,) a group.
        cost: in MACs, as the thesis has it, or whatever is to be saved.

    Raises:
        UsageError: `smoothing` is negative or not finite.
    """
    if not 0 <= smoothing < float("inf"):
        raise UsageError(f"--smoothing takes 0 or more, not {smoothing:g}")
    costs = torch.stack([channels.mean() for channels in marginal_costs(prunable, cost)])
    shares = costs / costs.sum() + smoothing
    return [score / share for score, share in zip(scores, (shares / shares.sum()).tolist(), strict=True)]


def marginal_costs(prunable: Prunable, cost: Cost) -> list[Tensor]:
    """What the whole network would cost less without one channel: (size,) float64 a group, by the gradient of `cost`."""
    kept = torch.ones(len(cost.dimensions), dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(cost.relaxed(kept), kept)
    saved = np.zeros(prunable.coupling.classes)
    for labels, slope in zip(cost.dimensions, slopes.tolist(), strict=True):
        np.add.at(saved, labels, slope / len(labels))
    return [torch.from_numpy(saved[classes]) for classes in prunable.classes]
