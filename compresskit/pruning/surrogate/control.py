"""The multiplier of the surrogate, found on the way: in every step, the smallest one that brings the cost to where the ramp wants it.

    step of the optimizer ──► lambda, by bisection ──► max(0, a - eta lambda g dR/da) ──► log
    (on the task's loss)      what is alive costs <= goal of this step

This is the update of section 3.2 with a lambda of its own in every step, chosen after the gradient of the task has acted. So nothing is
tuned, nothing lags behind and nothing overshoots, and no state is kept but the masks themselves. `g` sets the pace of each group's masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from compresskit.pruning.surrogate.cost import MaskCost
from compresskit.pruning.surrogate.masks import MaskedNetwork
from compresskit.pruning.surrogate.norms import TINY, Norm

HALVINGS = 10  # of the range of lambda
LAST = 1e-3  # what the last mask of a group is held at: a layer without channels would cut the network in two
FASTEST = 4.0  # no mask moves faster, in units of the pace that takes the largest one to zero within the run


@dataclass(frozen=True)
class Control:
    """What happens to the masks after each step of the optimizer.

    Attributes:
        goal: the cost at the end of the run; before, it is on the straight line from that of the whole model.
        floors: (groups,) a group with no more entries alive than this is left alone.
        steps: of the whole run.
        rate: learning rate of the masks.
    """

    masked: MaskedNetwork
    surrogate: MaskCost
    norm: Norm
    goal: float
    floors: Tensor
    steps: int
    rate: float

    @torch.no_grad()
    def __call__(self, step: int) -> None:
        """Project the masks after step `step` in [1, steps]: onto the non-negative, no group empty, then onto what the ramp allows."""
        mask = self.masked.mask.copy_(self._projected(self.masked.mask))
        whole = self.surrogate.whole
        direction = self._direction(mask)
        shift = self._shift(mask, direction, whole - (whole - self.goal) * step / self.steps)
        mask.copy_(_moved(mask, shift, direction))
        costs = torch.stack([self.surrogate(mask, self.norm), self.surrogate.standing(mask)]) / whole
        self.masked.log[(step * len(self.masked.log) - 1) // self.steps] = torch.cat([costs, shift[None] / self.rate])

    def _projected(self, mask: Tensor) -> Tensor:
        """`mask` without what is negative, but for the largest of a group that would be left with nothing."""
        owner = self.surrogate.owner
        top = torch.full_like(self.surrogate.sizes, -torch.inf).scatter_reduce(0, owner, mask, "amax")
        return torch.where((mask == top[owner]) & (mask <= 0), LAST, mask.clamp(min=0))

    def _direction(self, mask: Tensor) -> Tensor:
        """Gradient of the surrogate, scaled so that it is at most 1 in every group, and 0 for groups at their floor: (entries,).

        With the gradient as it is, the groups that cost most would be emptied before others begin: a stream of residuals or the
        widths inside its blocks, whichever has more MACs a channel. At one pace, the loss alone makes a group differ from others.
        """
        with torch.enable_grad():
            leaf = mask.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.surrogate(leaf, self.norm), leaf)
        owner = self.surrogate.owner
        alive = self.surrogate.per_group(self.surrogate.alive(mask).to(mask))
        pace = (alive > self.floors) / (self.surrogate.largest(gradient.abs()) + TINY)
        return gradient * pace[owner]

    def _shift(self, mask: Tensor, direction: Tensor, goal: float) -> Tensor:
        """How far along `direction` the masks have to go for the cost to be at most `goal`, a scalar; less where that is too far for one step."""
        low, high = mask.new_zeros(()), FASTEST / self.steps * mask.max()
        if self.surrogate.standing(mask) <= goal:
            return low
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if self.surrogate.standing(_moved(mask, middle, direction)) > goal:
                low = middle
            else:
                high = middle
        return high


def _moved(mask: Tensor, shift: Tensor, direction: Tensor) -> Tensor:
    return (mask - shift * direction).clamp(min=0)
