"""Group magnitude: channels with small weights matter little (Li et al. 2017; over dependency groups, Fang et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from compresskit.pruning.criteria.base import Context, covered, criterion, first_of, is_norm_scale, mean_over, per_channel
from compresskit.pruning.groups import Group, Slices


@dataclass(frozen=True)
class GroupNorm:
    """How large a channel's weights are: the sum of |w|^p in each layer of its group, reduced to one number.

    Liu et al. 2025, "Meta Pruning via Graph Metanetworks", equation 24.

    Attributes:
        p: the power, 1 or more.
        reduce: "mean" over the producers, consumers and norm scales of the channel, or the "first" filter that produces it, no matter who reads it.
    """

    p: float
    reduce: Literal["mean", "first"]

    def __call__(self, group: Group, weights: Mapping[str, Tensor]) -> Tensor:
        """The norm of every channel, differentiable in `weights`: (size,); infinity where a channel has no weight that counts."""
        reduce = mean_over if self.reduce == "mean" else first_of
        return reduce(group, self.pieces(group, weights), lambda piece: per_channel(piece, self.powers(weights[piece.parameter]), group.size))

    def pieces(self, group: Group, weights: Mapping[str, Tensor]) -> list[Slices]:
        """What counts of the group."""
        joint = self.reduce == "mean"
        return [piece for piece in group.slices if piece.parameter in weights and (piece.role == "out" or (joint and _goes_along(piece)))]

    def powers(self, weight: Tensor) -> Tensor:
        """|w|^p, entry by entry."""
        return weight.square() if self.p == 2 else weight.abs() if self.p == 1 else weight.abs().pow(self.p)

    def shares(self, group: Group, weights: Mapping[str, Tensor]) -> list[Tensor]:
        """By how much the norm of a channel grows with its sum in each of `pieces`: (size,) a piece; 0 where the piece does not count."""
        covers = [covered(piece, group.size).float() for piece in self.pieces(group, weights)]
        if self.reduce == "mean":
            count = sum(covers, torch.zeros(group.size)).clamp(min=1)
            return [cover / count for cover in covers]
        before = torch.zeros(group.size)
        shares = []
        for cover in covers:
            shares.append(cover * (before == 0))
            before += cover
        return shares

    def scores(self, context: Context) -> list[Tensor]:
        """The norms of all channels of `context`: (size,) a group."""
        weights = {name: parameter.detach() for name, parameter in context.parameters().items()}
        return [self(group, weights) for group in context.groups]


def _goes_along(piece: Slices) -> bool:
    return piece.role == "in" or is_norm_scale(piece)


NORMS = {"l1": GroupNorm(1, "mean"), "l2": GroupNorm(2, "mean"), "l1-first": GroupNorm(1, "first"), "l2-first": GroupNorm(2, "first")}
"""Those that are criteria, by name."""


@criterion("l1", needs_data=False)
def l1(context: Context) -> list[Tensor]:
    """L1 norm of a channel's weights, averaged over the layers of its group."""
    return NORMS["l1"].scores(context)


@criterion("l2", needs_data=False)
def l2(context: Context) -> list[Tensor]:
    """Squared L2 norm of a channel's weights, averaged over the layers of its group."""
    return NORMS["l2"].scores(context)


@criterion("l1-first", needs_data=False)
def l1_first(context: Context) -> list[Tensor]:
    """L1 norm of the filter that produces a channel, no matter who reads it."""
    return NORMS["l1-first"].scores(context)


@criterion("l2-first", needs_data=False)
def l2_first(context: Context) -> list[Tensor]:
    """Squared L2 norm of the filter that produces a channel, no matter who reads it."""
    return NORMS["l2-first"].scores(context)
