"""What a metanetwork is to make small: the group norms by which channels are cut, or single weights.

Each kind is a loss, and the same as gradients of the weights, to be added to those of another loss without a second pass through the model.
Liu et al. 2025, "Meta Pruning via Graph Metanetworks", appendix B.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from compresskit.pruning.criteria.magnitude import NORMS, GroupNorm
from compresskit.pruning.criteria.normalizers import normalize, scale
from compresskit.pruning.groups import Group, Slices

Weights = Mapping[str, Tensor]


class Sparsity(Protocol):
    """A loss that is small where much of a network can go."""

    def loss(self, weights: Weights) -> Tensor:
        """The loss of the parameters `weights`, by name: a scalar on the CPU, differentiable."""
        ...

    def gradients(self, weights: Weights) -> dict[str, Tensor]:
        """The gradient of `loss`, of those of `weights` that it depends on."""
        ...


@dataclass(frozen=True)
class GroupSparsity:
    """The importance of all channels, each pressed down the harder the smaller it is within its group (equations 24 to 27).

    Attributes:
        norm: eq. 24, of a channel.
        normalize: what the norms of a group are divided by, eq. 25: none, mean or max.
        alpha: shrinkage: the least channel is pressed 2^alpha times as hard as the largest.
        relative: whether what the norms are divided by counts as theirs, not as a constant as in the paper: then nothing is gained by making
            all weights smaller alike, which norms behind the layers undo, and which no ranking sees.
    """

    groups: Sequence[Group]
    norm: GroupNorm = NORMS["l2"]
    normalize: str = "max"
    alpha: float = 4.0
    relative: bool = False

    def importances(self, weights: Weights) -> list[Tensor]:
        """What channels are ranked by: (size,) a group; infinity where no weight counts."""
        return [normalize(self.norm(group, weights), self.normalize) for group in self.groups]

    def loss(self, weights: Weights) -> Tensor:
        """Eq. 26; the shrinkage counts as a constant, and so does what the norms are divided by unless `relative`."""
        total = torch.zeros(())
        for group in self.groups:
            norms = self.norm(group, weights)
            total = total + self._pressure(norms[norms.isfinite()])
        return total

    def gradients(self, weights: Weights) -> dict[str, Tensor]:
        fixed = {name: weight.detach() for name, weight in weights.items()}
        found: dict[str, Tensor] = {}
        for group in self.groups:
            slopes = self._slopes(self.norm(group, fixed))
            for piece, share in zip(self.norm.pieces(group, fixed), self.norm.shares(group, fixed), strict=True):
                weight = fixed[piece.parameter]
                gradient = _along(piece, slopes * share, weight) * _derivative(weight, self.norm.p)
                found[piece.parameter] = found[piece.parameter] + gradient if piece.parameter in found else gradient
        return found

    def _slopes(self, norms: Tensor) -> Tensor:
        """The derivative of the loss by each of the (size,) `norms` of a group; 0 where no weight counts."""
        counts = norms.isfinite()
        with torch.enable_grad():
            finite = norms[counts].requires_grad_()
            (slopes,) = torch.autograd.grad(self._pressure(finite), finite)
        return torch.zeros_like(norms).masked_scatter(counts, slopes)

    def _pressure(self, norms: Tensor) -> Tensor:
        """The loss of a group, of its finite norms."""
        divisor = scale(norms, self.normalize)
        return (self._shrinkage(norms.detach()) * norms / (divisor if self.relative else divisor.detach())).sum()

    def _shrinkage(self, norms: Tensor) -> Tensor:
        """Eq. 27, of finite norms."""
        roots = norms.sqrt()
        span = roots.max() - roots.min() if len(roots) else roots.sum()
        return torch.exp2(self.alpha * (roots.max() - roots) / span) if span > 0 else torch.ones_like(roots)


@dataclass(frozen=True)
class WeightSparsity:
    """The L1 norm of single weights, for zeros in place of cuts (section 4.3).

    Attributes:
        names: of the parameters that may become sparse.
    """

    names: Sequence[str]

    def loss(self, weights: Weights) -> Tensor:
        return sum((weights[name].abs().sum() for name in self.names), torch.zeros(())).cpu()

    def gradients(self, weights: Weights) -> dict[str, Tensor]:
        return {name: weights[name].detach().sign() for name in self.names}


def _along(piece: Slices, factors: Tensor, weight: Tensor) -> Tensor:
    """The (size,) `factors` of the channels where `piece` has them in `weight`, to multiply `weight` by; 0 elsewhere."""
    line = weight.new_zeros(weight.shape[piece.dim])
    line[torch.from_numpy(piece.positions)] = factors[torch.from_numpy(piece.channels)].to(line)
    return line.view([-1 if dim == piece.dim else 1 for dim in range(weight.ndim)])


def _derivative(weight: Tensor, p: float) -> Tensor:
    return p * weight.abs().pow(p - 1) * weight.sign()
