"""What a criterion has to beat: chance, and the same width everywhere."""

from __future__ import annotations

import torch
from torch import Tensor

from compresskit.pruning.criteria.base import Context, criterion
from compresskit.pruning.criteria.magnitude import l1


@criterion("random", needs_data=False)
def random(context: Context) -> list[Tensor]:
    """Uniform random numbers drawn from the seed."""
    rng = torch.Generator().manual_seed(context.seed)
    return [torch.rand(group.size, generator=rng) for group in context.groups]


@criterion("uniform", needs_data=False)
def uniform(context: Context) -> list[Tensor]:
    """The same kept fraction in every group, chosen inside each by l1.

    Scores are ranks in (0, 1), at the middle of each channel's share, so that one threshold for all groups keeps the same fraction
    of each up to half a channel. Leave them unnormalized.
    """
    return [(scores.argsort(stable=True).argsort() + 0.5) / len(scores) for scores in l1(context)]
