"""Masks on channels and ranks, trained along with the weights: one number a channel, on every weight that reads it.

A layer computes with `W diag(a)` in place of `W`, where `a` is the mask of the channels that it reads (L1/L2 surrogates, section 3.1), and
with `U diag(b) V diag(a)` where its rank is open (table 1). The masks multiply weights, not activations, and factors are multiplied with
each other before they meet an activation, so that a step costs hardly more than a plain one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from compresskit.pruning.factors import Factors
from compresskit.pruning.groups import Prunable


class MaskedNetwork(nn.Module):
    """A network some of whose weights are made with masks.

    Attributes:
        network: a copy of the module given.
        mask: (entries,), not negative.
        log: what `control` noted; kept here, so that a checkpoint holds it.
    """

    mask: nn.Parameter
    log: Tensor

    def __init__(self, module: fx.GraphModule, start: Tensor, log: Tensor) -> None:
        super().__init__()
        self.network: fx.GraphModule = copy.deepcopy(module)
        self.mask = nn.Parameter(start.clone())
        self.register_buffer("log", log)

    def forward(self, *inputs: Any) -> Any:
        """What the network computes with its weights masked."""
        return functional_call(self.network, self.weights(self.mask), inputs)

    def weights(self, mask: Tensor) -> dict[str, Tensor]:
        """Every parameter of the network that `mask` has a part in, by name."""
        raise NotImplementedError

    def trained(self) -> list[nn.Parameter]:
        """What is trained beside the masks."""
        return [parameter for parameter in self.network.parameters() if parameter.requires_grad]


class Masked(MaskedNetwork):
    """A network whose channels and ranks carry masks; until one of them changes, it computes what the network does.

    The masks of one group follow those of another; weights are divided by the masks that they begin with.

    Attributes:
        left, right: U and V of the layers whose rank is open; what the network has as their weights is not used.
    """

    def __init__(self, prunable: Prunable, start: Tensor, log: Tensor, factors: Mapping[str, Factors] | None = None) -> None:
        super().__init__(prunable.graph.module, start, log)
        self._places = _places(prunable, self.network)
        self._ranks = _spans(prunable)
        self.left = nn.ParameterList(factors[layer].left for layer in prunable.ranks) if factors else nn.ParameterList()
        self.right = nn.ParameterList(factors[layer].right for layer in prunable.ranks) if factors else nn.ParameterList()
        self._divide()

    @torch.no_grad()
    def _divide(self) -> None:
        """Take the masks out of what they multiply."""
        rank_of = {name: index for index, name in enumerate(self._ranks)}
        padded = _padded(1 / self.mask)
        for (name, dim), places in self._places.items():
            parameter = self.network.get_parameter(name)
            if name in rank_of:
                parameter = (self.right if dim else self.left)[rank_of[name]]
            parameter.mul_(_along(padded[places], dim, parameter.ndim))
        for left, (name, span) in zip(self.left, self._ranks.items(), strict=True):
            left.div_(self.mask[span])
            self.network.get_parameter(name).requires_grad_(False)

    def weights(self, mask: Tensor) -> dict[str, Tensor]:
        """Every parameter that has factors or reads masked channels, multiplied out."""
        weights: dict[str, Tensor] = {}
        for left, right, (name, span) in zip(self.left, self.right, self._ranks.items(), strict=True):
            weights[name] = ((left * mask[span]) @ right.flatten(1)).view(-1, *right.shape[1:])
        padded = _padded(mask)
        for (name, dim), places in self._places.items():
            weight = weights.get(name, self.network.get_parameter(name))
            weights[name] = weight * _along(padded[places], dim, weight.ndim)
        return weights

    def trained(self) -> list[nn.Parameter]:
        """What is trained beside the masks: factors in place of the weights that they make up."""
        return [*super().trained(), *self.left, *self.right]


def parameter_groups(masked: MaskedNetwork, rate: float) -> list[dict[str, Any]]:
    """Groups for the optimizer: weights decay, biases and norms do not, and masks neither, which learn at their own `rate`."""
    trained = masked.trained()
    return [
        {"params": [p for p in trained if p.ndim > 1]},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        {"params": [masked.mask], "lr": rate, "weight_decay": 0.0},
    ]


def _padded(mask: Tensor) -> Tensor:
    """With a 1 behind the last entry, for what has no mask."""
    return torch.cat([mask, mask.new_ones(1)])


def _along(values: Tensor, dim: int, ranks: int) -> Tensor:
    """`values` (n,) so that they multiply dimension `dim` of a tensor of `ranks` dimensions."""
    return values.view(-1, *[1] * (ranks - dim - 1))


def _places(prunable: Prunable, module: nn.Module) -> dict[tuple[str, int], Tensor]:
    """For every parameter and dimension that reads masked channels, or makes them where nothing reads them, the place of each position's mask.

    Places count through all masks; the one past their end stands for 1. A parameter of several names goes under one of them.
    """
    parameters = dict(module.named_parameters(remove_duplicate=False))
    names = {parameter: name for name, parameter in reversed(parameters.items())}
    starts = np.cumsum([0, *(group.size for group in prunable.groups)])
    found: dict[tuple[str, int], np.ndarray] = {}
    for group, start in zip(prunable.groups, starts[:-1], strict=True):
        for piece in group.carriers():
            if piece.parameter in parameters:
                parameter = parameters[piece.parameter]
                places = found.setdefault((names[parameter], piece.dim), np.full(parameter.shape[piece.dim], starts[-1]))
                places[piece.positions] = start + piece.channels
    return {key: torch.from_numpy(places) for key, places in found.items()}


def _spans(prunable: Prunable) -> dict[str, slice]:
    """Where among all masks those of a layer's rank are, by the name of its weight."""
    sizes = [len(classes) for classes in prunable.ranks.values()]
    ends = np.cumsum([sum(group.size for group in prunable.channels), *sizes]).tolist()
    return {f"{layer}.weight": slice(*ends[index : index + 2]) for index, layer in enumerate(prunable.ranks)}
