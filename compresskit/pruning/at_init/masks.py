"""What a saliency masks: single weights, or whole channels. A mask of ones changes nothing; its gradient says what an entry matters.

weights, masks ──apply──► masked weights ──► loss ──► dL/dmask ──► scores ──select──► masks of zeros and ones
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

import torch
from torch import Tensor, fx, nn

from compresskit.pruning.at_init.choice import choose_weights
from compresskit.pruning.footprint import Cost
from compresskit.pruning.groups import Prunable, Slices
from compresskit.pruning.sparsity import sparse_weights
from compresskit.pruning.target import plan

Granularity = Literal["weights", "channels"]
Tensors = dict[str, Tensor]


class Masks(Protocol):
    """A way to mask the weights of one network; masks go by the name of a weight or of a group.

    Attributes:
        granularity: of an entry.
        module: whose weights are masked.
    """

    @property
    def granularity(self) -> Granularity: ...

    @property
    def module(self) -> fx.GraphModule: ...

    def ones(self) -> Tensors:
        """A mask for everything that may go, all ones, on the module's device."""

    def apply(self, weights: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensors:
        """All `weights` by name, those that `masks` reach multiplied by them; differentiable in both."""

    def select(self, scores: Mapping[str, Tensor], kept: float) -> Tensors:
        """Masks of zeros and ones that keep what `scores` says matters most, and `kept` of the weights or of the cost."""


@dataclass(frozen=True)
class WeightMasks:
    """An entry for each weight of each convolution and linear layer (Lee et al. 2019, section 4.1; the thesis's eq. 3.2)."""

    module: fx.GraphModule
    granularity: Granularity = field(default="weights", init=False)

    def ones(self) -> Tensors:
        return {name: torch.ones_like(weight, requires_grad=False) for name, weight in sparse_weights(self.module).items()}

    def apply(self, weights: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensors:
        return {**weights, **{name: weights[name] * mask for name, mask in masks.items()}}

    def select(self, scores: Mapping[str, Tensor], kept: float) -> Tensors:
        return {name: mask.to(scores[name]) for name, mask in choose_weights(scores, kept).masks.items()}


@dataclass(frozen=True)
class ChannelMasks:
    """An entry for each channel of each group, which masks the channel wherever a layer reads it.

    That is the output mask of section 3.2.1, moved past what lies between producer and consumer: an addition hands a shared mask on to
    its sum, so all branches of a residual stage have one mask. Before a batch norm a mask would do nothing (the norm divides it out
    again), and zero would leave the norm's offset behind; where the channel is read, zero is the cut itself.

    Channels that no layer reads with weights of its own (queries and keys meet in a product) are masked where they are produced.

    Attributes:
        cost: what `select` counts a choice of channels by.
    """

    prunable: Prunable
    cost: Cost
    granularity: Granularity = field(default="channels", init=False)

    @property
    def module(self) -> fx.GraphModule:
        return self.prunable.graph.module

    def ones(self) -> Tensors:
        like = next(self.module.parameters())
        return {group.name: torch.ones(group.size, dtype=like.dtype, device=like.device) for group in self.prunable.groups}

    def apply(self, weights: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensors:
        masked = dict(weights)
        for group, pieces in self._places:
            for piece in pieces:
                weight = masked[piece.parameter]
                positions, channels = (torch.from_numpy(index).to(weight.device) for index in (piece.positions, piece.channels))
                factors = weight.new_ones(weight.shape[piece.dim]).index_put((positions,), masks[group][channels])
                masked[piece.parameter] = weight * factors.unflatten(0, (-1, *[1] * (weight.ndim - piece.dim - 1)))
        return masked

    def select(self, scores: Mapping[str, Tensor], kept: float) -> Tensors:
        keep = plan(self.prunable, list(scores.values()), self.cost, kept * self.cost.whole).keep
        return {name: torch.from_numpy(keep[classes]).to(score) for (name, score), classes in zip(scores.items(), self.prunable.classes, strict=True)}

    @cached_property
    def _places(self) -> list[tuple[str, list[Slices]]]:
        """The slices that each group's mask multiplies; a weight that layers share is there once."""
        first = _first_names(self.module)
        places = []
        for group in self.prunable.groups:
            unique = {(first.get(piece.parameter, ""), piece.dim): piece for piece in group.carriers()}
            pieces = [Slices(name, dim, piece.role, piece.positions, piece.channels) for (name, dim), piece in unique.items() if name]
            places.append((group.name, pieces))
        return places


def _first_names(module: nn.Module) -> dict[str, str]:
    """Every name of every parameter, and the first of the same tensor."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return {name: names[id(parameter)] for name, parameter in module.named_parameters(remove_duplicate=False)}
