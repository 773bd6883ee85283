"""What masks cost: the paper's surrogate, which has a gradient, and the count of what is alive, which is what a cut leaves."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from compresskit.pruning.footprint import Cost
from compresskit.pruning.groups import Prunable
from compresskit.pruning.surrogate.norms import Norm
from compresskit.pruning.trace import Labels

ALIVE = 0.05  # of a group's largest mask: optimizers bounce masks off zero, and counting these as alive would overstate the cost


class MaskCost(ABC):
    """A cost as a function of all masks, one after the other in a tensor (entries,), which come in groups.

    Everything is computed for all groups at once, as this runs in every training step.

    Attributes:
        owner: (entries,) the group of each entry.
        sizes: (groups,) floats.
        whole: the cost of masks of ones.
    """

    def __init__(self, owner: Tensor, whole: float) -> None:
        self.owner = owner
        self.sizes = owner.bincount().float()
        self.whole = whole

    @abstractmethod
    def of(self, kept: Tensor) -> Tensor:
        """The cost, a differentiable scalar, where a fraction `kept` (groups,) of each group stays."""

    def per_group(self, values: Tensor) -> Tensor:
        """Sums of `values` (entries,) over each group: (groups,)."""
        return torch.zeros_like(self.sizes).index_add(0, self.owner, values)

    def largest(self, values: Tensor) -> Tensor:
        """The largest of the `values` (entries,), which are not negative, in each group: (groups,)."""
        return torch.zeros_like(self.sizes).scatter_reduce(0, self.owner, values, "amax")

    def __call__(self, mask: Tensor, norm: Norm) -> Tensor:
        """The surrogate, a differentiable scalar in the units of the cost: equation 4 with `norm` l1l2, equation 3 with l1."""
        counts = norm(self.per_group(mask), self.per_group(mask.square()), self.sizes)
        return self.of(counts / self.sizes)

    def alive(self, mask: Tensor) -> Tensor:
        """Which entries count as alive: (entries,) bool."""
        return mask > ALIVE * self.largest(mask)[self.owner]

    def standing(self, mask: Tensor) -> Tensor:
        """The cost of the entries that are alive, a scalar."""
        return self.of(self.per_group(self.alive(mask).to(mask)) / self.sizes)


class Surrogate(MaskCost):
    """The cost of channels and ranks.

    The kept fraction of a dimension is its pinned share plus, for every group, the group's share times the fraction of it that is kept.
    """

    def __init__(self, prunable: Prunable, cost: Cost, device: torch.device | str = "cpu") -> None:
        sizes = [group.size for group in prunable.groups]
        super().__init__(torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).to(device), cost.whole)
        shares = np.stack([_shares(prunable, labels) for labels in cost.dimensions]) if cost.dimensions else np.zeros((0, len(sizes)))
        self._cost = cost
        self._shares = torch.from_numpy(shares).to(self.sizes)
        self._pinned = 1 - self._shares.sum(1)

    def of(self, kept: Tensor) -> Tensor:
        return self._cost.relaxed(self._pinned + self._shares @ kept)


class WeightCount(MaskCost):
    """The number of single weights, in groups that share a norm: `N(vec A)` of table 1."""

    def __init__(self, owner: Tensor) -> None:
        super().__init__(owner, float(len(owner)))

    def of(self, kept: Tensor) -> Tensor:
        return (self.sizes * kept).sum()


def _shares(prunable: Prunable, labels: Labels) -> np.ndarray:
    """Which fraction of a dimension belongs to each group: (groups,)."""
    return np.array([np.isin(labels, classes).mean() for classes in prunable.classes])
