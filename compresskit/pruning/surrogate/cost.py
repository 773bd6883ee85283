"""What masks cost: the paper's surrogate, which has a gradient, and the count of channels that are alive, which is what a cut leaves."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from compresskit.pruning.footprint import Cost
from compresskit.pruning.groups import Prunable
from compresskit.pruning.surrogate.norms import Norm
from compresskit.pruning.trace import Labels

ALIVE = 0.05  # of a group's largest mask: optimizers bounce masks off zero, and counting these as alive would overstate the cost


class Surrogate:
    """A cost as a function of all masks, one after the other in a tensor (channels,).

    The kept fraction of a dimension is its pinned share plus, for every group, the group's share times the fraction of it that is kept.
    Everything is computed for all groups at once, as this runs in every training step.
    """

    def __init__(self, prunable: Prunable, cost: Cost, device: torch.device | str = "cpu") -> None:
        self.cost = cost
        sizes = [group.size for group in prunable.groups]
        self.owner = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).to(device)
        self.sizes = torch.tensor(sizes, dtype=torch.float32, device=device)
        shares = np.stack([_shares(prunable, labels) for labels in cost.dimensions]) if cost.dimensions else np.zeros((0, len(sizes)))
        self._shares = torch.from_numpy(shares).to(self.sizes)
        self._pinned = 1 - self._shares.sum(1)

    def per_group(self, values: Tensor) -> Tensor:
        """Sums of `values` (channels,) over each group: (groups,)."""
        return torch.zeros_like(self.sizes).index_add(0, self.owner, values)

    def largest(self, values: Tensor) -> Tensor:
        """The largest of the `values` (channels,), which are not negative, in each group: (groups,)."""
        return torch.zeros_like(self.sizes).scatter_reduce(0, self.owner, values, "amax")

    def __call__(self, mask: Tensor, norm: Norm) -> Tensor:
        """The surrogate, a differentiable scalar in the units of the cost: equation 4 with `norm` l1l2, equation 3 with l1."""
        counts = norm(self.per_group(mask), self.per_group(mask.square()), self.sizes)
        return self._of(counts / self.sizes)

    def alive(self, mask: Tensor) -> Tensor:
        """Which channels count as alive: (channels,) bool."""
        return mask > ALIVE * self.largest(mask)[self.owner]

    def standing(self, mask: Tensor) -> Tensor:
        """The cost of the channels that are alive, a scalar."""
        return self._of(self.per_group(self.alive(mask).to(mask)) / self.sizes)

    def _of(self, kept: Tensor) -> Tensor:
        return self.cost.relaxed(self._pinned + self._shares @ kept)


def _shares(prunable: Prunable, labels: Labels) -> np.ndarray:
    """Which fraction of a dimension belongs to each group: (groups,)."""
    return np.array([np.isin(labels, classes).mean() for classes in prunable.classes])
