"""Network slimming: the scale that batch norm learns says how much a channel matters (Liu et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compresskit.errors import UsageError
from compresskit.pruning.criteria.base import Context, criterion, is_norm_scale, mean_over, per_channel
from compresskit.pruning.groups import Group

SPARSITY = 1e-4


def slimming_penalty(module: nn.Module) -> Tensor:
    """Sum of the absolute scales of all batch norms, times the paper's 1e-4: what training adds to the loss so that some shrink; scalar."""
    scales = [leaf.weight for leaf in module.modules() if isinstance(leaf, nn.modules.batchnorm._BatchNorm) and leaf.affine]
    return SPARSITY * torch.stack([scale.abs().sum() for scale in scales]).sum() if scales else torch.zeros(())


@criterion("bn-scale", needs_data=False, penalty=slimming_penalty)
def bn_scale(context: Context) -> list[Tensor]:
    """Absolute scale of the norms on a channel, averaged; channels without a norm are kept.

    Raises:
        UsageError: no channel of the model has a norm with a scale.
    """
    weights = context.parameters()

    def scales(group: Group) -> Tensor:
        norms = [piece for piece in group.slices if piece.parameter in weights and is_norm_scale(piece)]
        return mean_over(group, norms, lambda piece: per_channel(piece, weights[piece.parameter].detach().abs(), group.size))

    scores = [scales(group) for group in context.groups]
    if scores and not any(score.isfinite().any() for score in scores):
        raise UsageError("criterion 'bn-scale' reads the scales of batch norm, and no channel of this model has one: choose l2")
    return scores
