"""Layer-adaptive magnitude: a channel's share of what is left once all smaller ones are gone (Lee et al. 2021, for channels of a group)."""

from __future__ import annotations

import torch
from torch import Tensor

from compresskit.pruning.criteria.base import Context, criterion
from compresskit.pruning.criteria.magnitude import NORMS


@criterion("lamp", needs_data=False)
def lamp(context: Context) -> list[Tensor]:
    """Squared L2 norm of a channel divided by the sum of those of its group that are no smaller: comparable between groups as it is."""
    return [_share(energy) for energy in NORMS["l2"].scores(context)]


def _share(energy: Tensor) -> Tensor:
    """Each entry over the sum of all finite entries at least as large; 0 where that sum is 0. Equal entries get equal shares."""
    finite = torch.where(energy.isfinite(), energy, 0.0)
    ascending = finite.sort().values
    tails = ascending.flip(0).cumsum(0).flip(0)
    tail = tails[torch.searchsorted(ascending, finite)]
    share = torch.where(tail == 0, 0.0, finite / tail)
    return torch.where(energy.isfinite(), share, energy)
