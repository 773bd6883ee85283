"""The multiplier of the surrogate, found on the way, as `compresskit.pruning.surrogate.control` finds it for channels.

    step of the optimizer ──► lambda, by bisection ──► max(0, a - eta lambda) ──► log
    (on the task's loss)      open gates cost <= goal of this step

All open gates close at one pace. With the surrogate's gradient as it is, the layers that cost most would come down to 2 bits before others
left 8; so what a bit costs decides where gates begin, and the loss moves them from there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from compresskit.pruning.surrogate.norms import NORMS
from compresskit.quantization.bitwidths.cost import WidthCost

HALVINGS = 20  # of the range of lambda


@dataclass(frozen=True)
class Control:
    """What happens to the gates after each step of the optimizer.

    Attributes:
        mask: (weights, 2) the gates.
        log: (points, 3) filled along the run: surrogate and cost as fractions, and lambda.
        goal: the fraction at the end of the run; before, it is on the straight line from that of gates of ones.
        steps: of the whole run.
        rate: learning rate of the gates.
    """

    mask: Tensor
    log: Tensor
    cost: WidthCost
    goal: float
    steps: int
    rate: float

    @torch.no_grad()
    def __call__(self, step: int) -> None:
        """Project the gates after step `step` in [1, steps]: onto [0, 1], none open behind a closed one; then onto the ramp."""
        ceiling = self.cost.ceiling
        mask = _projected(self.mask)
        shift = self._shift(mask, ceiling - (ceiling - self.goal) * step / self.steps)
        self.mask.copy_(_projected(mask - shift))
        figures = [self.cost.relaxed(self.mask, NORMS["l1l2"]), self.cost.standing(self.mask), shift / self.rate]
        self.log[(step * len(self.log) - 1) // self.steps] = torch.stack(figures)

    def _shift(self, mask: Tensor, goal: float) -> Tensor:
        """How far the gates have to close for the cost to be at most `goal`, a scalar."""
        low, high = mask.new_zeros(()), mask.max()
        if self.cost.standing(mask) <= goal:
            return low
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if self.cost.standing(_projected(mask - middle)) > goal:
                low = middle
            else:
                high = middle
        return high


def _projected(mask: Tensor) -> Tensor:
    mask = mask.clamp(0, 1)
    return torch.stack([mask[:, 0], mask[:, 1] * (mask[:, 0] > 0)], dim=1)
