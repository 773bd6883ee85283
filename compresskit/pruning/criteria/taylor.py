"""First-order Taylor: how much the loss would change if the channel were gone (Molchanov et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from compresskit.pruning.criteria.base import Context, criterion
from compresskit.pruning.criteria.gradients import channel_sums, weight_times_gradient


@criterion("taylor", needs_data=True)
def taylor(context: Context) -> list[Tensor]:
    """Squared first-order estimate of the loss change when a channel's weights become zero: mean over batches of (sum of w g)^2."""
    scores = [torch.zeros(group.size) for group in context.groups]
    count = 0
    for products in weight_times_gradient(context):
        scores = [score + channel_sums(group, products).square() for group, score in zip(context.groups, scores, strict=True)]
        count += 1
    return [score / count for score in scores]
