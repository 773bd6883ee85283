"""Group magnitude: channels with small weights matter little (Li et al. 2017; over dependency groups, Fang et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from compresskit.pruning.criteria.base import Context, Reduction, criterion, first_of, is_norm_scale, mean_over, per_channel
from compresskit.pruning.groups import Group, Slices

Elementwise = Callable[[Tensor], Tensor]


@criterion("l1", needs_data=False)
def l1(context: Context) -> list[Tensor]:
    """L1 norm of a channel's weights, averaged over the layers of its group."""
    return group_magnitudes(context, torch.abs)


@criterion("l2", needs_data=False)
def l2(context: Context) -> list[Tensor]:
    """Squared L2 norm of a channel's weights, averaged over the layers of its group."""
    return group_magnitudes(context, torch.square)


@criterion("l1-first", needs_data=False)
def l1_first(context: Context) -> list[Tensor]:
    """L1 norm of the filter that produces a channel, no matter who reads it."""
    return producer_magnitudes(context, torch.abs)


@criterion("l2-first", needs_data=False)
def l2_first(context: Context) -> list[Tensor]:
    """Squared L2 norm of the filter that produces a channel, no matter who reads it."""
    return producer_magnitudes(context, torch.square)


def group_magnitudes(context: Context, elementwise: Elementwise) -> list[Tensor]:
    """Sums of `elementwise` over a channel's part of each producer, consumer and norm scale, averaged over these: (size,) a group."""
    return _magnitudes(context, elementwise, mean_over, lambda piece: piece.role in ("out", "in") or is_norm_scale(piece))


def producer_magnitudes(context: Context, elementwise: Elementwise) -> list[Tensor]:
    """Sums of `elementwise` over the first filter that produces each channel: (size,) a group."""
    return _magnitudes(context, elementwise, first_of, lambda piece: piece.role == "out")


def _magnitudes(context: Context, elementwise: Elementwise, reduce: Reduction, counts: Callable[[Slices], bool]) -> list[Tensor]:
    weights = context.parameters()

    def magnitude(group: Group) -> Tensor:
        pieces = [piece for piece in group.slices if piece.parameter in weights and counts(piece)]
        return reduce(group, pieces, lambda piece: per_channel(piece, elementwise(weights[piece.parameter].detach()), group.size))

    return [magnitude(group) for group in context.groups]
