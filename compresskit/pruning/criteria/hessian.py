"""Second-order saliency with a diagonal Hessian (optimal brain damage, LeCun et al. 1990), its diagonal taken from the empirical Fisher."""

from __future__ import annotations

import torch
from torch import Tensor

from compresskit.pruning.criteria.base import Context, criterion
from compresskit.pruning.criteria.gradients import channel_sums, weight_times_gradient


@criterion("hessian", needs_data=True)
def hessian(context: Context) -> list[Tensor]:
    """Second-order estimate of the loss change when a channel's weights become zero: sum of w^2 E[g^2] / 2.

    g is the gradient of a batch's mean loss: cheap, and the smaller the batches the closer to the Fisher diagonal, up to a factor.
    """
    scores = [torch.zeros(group.size) for group in context.groups]
    count = 0
    for products in weight_times_gradient(context):
        squares = {name: product.square() for name, product in products.items()}
        scores = [score + channel_sums(group, squares) for group, score in zip(context.groups, scores, strict=True)]
        count += 1
    return [score / (2 * count) for score in scores]
