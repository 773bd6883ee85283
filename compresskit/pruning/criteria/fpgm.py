"""Filter pruning via geometric median: a filter that the others can stand in for matters little (He et al. 2019)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from compresskit.pruning.criteria.base import Context, criterion, mean_over
from compresskit.pruning.groups import Group, Slices


@criterion("fpgm", needs_data=False)
def fpgm(context: Context) -> list[Tensor]:
    """Sum of the distances from a channel's filter to the other filters of its layer, averaged over the layers that produce it."""
    weights = context.parameters()

    def distances(group: Group) -> Tensor:
        producers = [piece for piece in group.slices if piece.parameter in weights and piece.role == "out"]
        return mean_over(group, producers, lambda piece: _distance_sums(piece, weights[piece.parameter].detach(), group.size))

    return [distances(group) for group in context.groups]


def _distance_sums(piece: Slices, weight: Tensor, size: int) -> Tensor:
    """Sum of each channel's Euclidean distances to the others that `piece` covers: (size,); 0 for channels outside."""
    present = np.unique(piece.channels)
    rows = filters(piece, weight, size)[torch.from_numpy(present)]
    return torch.zeros(size).index_copy(0, torch.from_numpy(present), torch.cdist(rows, rows).sum(1).float())


def filters(piece: Slices, weight: Tensor, size: int) -> Tensor:
    """What `weight` holds of each channel, one row a channel: (size, most positions of a channel * weights of a position), float64, CPU.

    Double, because `cdist` finds distances as differences of squares. Channels with fewer positions are padded with zeros.
    """
    order = np.argsort(piece.channels, kind="stable")
    channels, positions = piece.channels[order], piece.positions[order]
    rank = np.arange(len(channels)) - np.searchsorted(channels, channels)  # first, second ... position of its channel
    values = weight.movedim(piece.dim, 0).flatten(1).double().cpu()
    rows = values.new_zeros(size, int(rank.max()) + 1, values.shape[1])
    rows[torch.from_numpy(channels), torch.from_numpy(rank)] = values[torch.from_numpy(positions)]
    return rows.flatten(1)
