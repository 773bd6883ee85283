"""How much the readers of a channel miss it, when the channels that stay take over what it carried.

A layer computes `y = W x`, C is the covariance of x, and P its inverse. Without the entries s of x, and with W refitted to the others by least
squares (see `compensation`), the squared error of y grows by

    tr(W_s P_ss^-1 W_s^T)

and what is left are `W - W_s P_ss^-1 P_s` and `P - P_:s P_ss^-1 P_s:` (the optimal brain surgeon of Hassibi and Stork 1993, in blocks, with C
in place of the Hessian). So channels can go one after the other, those first that are missed least, each judged by what stays beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compresskit.pruning.compensation import RIDGE, Moments, fits, gather
from compresskit.pruning.criteria.base import Context, criterion
from compresskit.pruning.criteria.magnitude import NORMS
from compresskit.pruning.groups import Group, Slices
from compresskit.training.evaluation import evaluating

ROUNDS = 64  # in which the channels of a group go; of wider ones, several at once


@criterion("reconstruction", needs_data=True)
def reconstruction(context: Context) -> list[Tensor]:
    """What those who read a channel would miss, with all that matters less gone, if the others took over by least squares."""
    names = dict.fromkeys(_layer(piece) for group in context.groups for piece in group.slices if _is_read(context.module, piece))
    with evaluating(context.module):
        moments = gather(context.module, list(names), context.batches or ())
    magnitudes = NORMS["l2"].scores(context)
    return [_scores(context.module, group, moments, other) for group, other in zip(context.groups, magnitudes, strict=True)]


def _layer(piece: Slices) -> str:
    return piece.parameter.rpartition(".")[0]


def _is_read(module: Any, piece: Slices) -> bool:
    """Whether `piece` is of a layer that reads the channels, and can be refitted."""
    return piece.role == "in" and piece.dim == 1 and fits(module.get_submodule(_layer(piece)))


@torch.no_grad()
def _scores(module: Any, group: Group, moments: Mapping[str, Moments], otherwise: Tensor) -> Tensor:
    """Scores of one group (size,): the error that had come together when a channel went; `otherwise` where nothing can be refitted."""
    readers = [_Reader(module, group.size, piece, moments[_layer(piece)]) for piece in group.slices if _is_read(module, piece)]
    if not readers:
        return otherwise
    scores, left, error = torch.zeros(group.size), torch.arange(group.size), 0.0
    while len(left):
        losses = torch.stack([reader.losses(left) for reader in readers]).sum(0)
        found = losses.topk(min(len(left), -(-group.size // ROUNDS)), largest=False)
        error += float(found.values.sum())
        gone = left[found.indices]
        scores[gone] = error
        left = left[~torch.isin(left, gone)]
        for reader in readers:
            reader.drop(gone)
    return scores


class _Reader:
    """A layer that reads channels of a group, refitted to those that are left.

    Columns are the entries of its inputs, kernel positions counted, and behind them some that never vary and carry nothing: they stand in for
    what a channel has fewer of than others.
    """

    def __init__(self, module: Any, size: int, piece: Slices, moments: Moments) -> None:
        weight = module.get_parameter(piece.parameter).detach()
        matrix, covariance = weight.flatten(1).double().cpu(), moments.covariance()
        self._real = matrix.shape[1]
        self._scale = float((matrix @ covariance * matrix).sum()) or 1.0  # variance of the outputs, so that layers can be added up
        self._columns = _columns(piece, size, weight[0, 0].numel(), self._real)
        spare = self._columns.shape[1]
        ridge = RIDGE * covariance.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
        inverse = torch.linalg.inv(covariance + ridge * torch.eye(self._real, dtype=torch.float64))
        self._precision = torch.block_diag(inverse, torch.eye(spare, dtype=torch.float64))
        self._weight = torch.cat([matrix, matrix.new_zeros(len(matrix), spare)], dim=1)

    def losses(self, channels: Tensor) -> Tensor:
        """By how much the error grows if one of `channels` goes, as a fraction of the outputs' variance: (channels,)."""
        columns = self._columns[channels]
        blocks = self._precision[columns[:, :, None], columns[:, None, :]]
        weights = self._weight[:, columns].permute(1, 2, 0)
        return (weights * torch.linalg.solve(blocks, weights)).sum((1, 2)).clamp(min=0) / self._scale

    def drop(self, channels: Tensor) -> None:
        """Let `channels` go, and the others take over."""
        columns = self._columns[channels].flatten()
        columns = columns[columns < self._real]
        if len(columns):
            factor = torch.linalg.solve(self._precision[columns][:, columns], self._precision[columns])
            self._weight -= self._weight[:, columns] @ factor
            self._precision -= self._precision[:, columns] @ factor


def _columns(piece: Slices, size: int, kernel: int, real: int) -> Tensor:
    """(size, most columns of a channel): the columns of each channel, and spare ones, from `real` on, where it has fewer."""
    order = np.argsort(piece.channels, kind="stable")
    channels, positions = piece.channels[order], piece.positions[order]
    rank = np.arange(len(channels)) - np.searchsorted(channels, channels)  # first, second ... position of its channel
    places = np.arange(kernel)
    columns = np.tile(real + np.arange((int(rank.max()) + 1) * kernel), (size, 1))
    columns[channels[:, None], rank[:, None] * kernel + places] = positions[:, None] * kernel + places
    return torch.from_numpy(columns)
