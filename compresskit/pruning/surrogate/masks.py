"""Masks on channels, trained along with the weights: one number a channel, on every weight that reads it.

A layer computes with `W diag(a)` in place of `W`, where `a` is the mask of the channels that it reads (L1/L2 surrogates, section 3.1).
The masks multiply weights, not activations, so that a step costs hardly more than a plain one.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from compresskit.pruning.groups import Prunable


class Masked(nn.Module):
    """A network whose channels carry masks; until one of them changes, it computes what the network does.

    Attributes:
        network: a copy of the graph's module, its weights divided by the masks.
        mask: (channels of all groups,), one group after the other; not negative.
        log: what `control` noted; kept here, so that a checkpoint holds it.
    """

    mask: nn.Parameter
    log: Tensor

    def __init__(self, prunable: Prunable, start: Tensor, log: Tensor) -> None:
        super().__init__()
        self.network: fx.GraphModule = copy.deepcopy(prunable.graph.module)
        self.mask = nn.Parameter(start.clone())
        self.register_buffer("log", log)
        self._places = _places(prunable, self.network)
        with torch.no_grad():
            for name, weight in self.weights(1 / self.mask).items():
                self.network.get_parameter(name).copy_(weight)

    def forward(self, *inputs: Any) -> Any:
        """What the network computes with its weights masked."""
        return functional_call(self.network, self.weights(self.mask), inputs)

    def weights(self, mask: Tensor) -> dict[str, Tensor]:
        """Every parameter that reads masked channels, multiplied with their masks."""
        padded = torch.cat([mask, mask.new_ones(1)])
        weights: dict[str, Tensor] = {}
        for (name, dim), places in self._places.items():
            weight = weights.get(name, self.network.get_parameter(name))
            weights[name] = weight * padded[places].view(-1, *[1] * (weight.ndim - dim - 1))
        return weights


def parameter_groups(masked: Masked, rate: float) -> list[dict[str, Any]]:
    """Groups for the optimizer: weights decay, biases and norms do not, and masks neither, which learn at their own `rate`."""
    trained = [parameter for parameter in masked.network.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1]},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        {"params": [masked.mask], "lr": rate, "weight_decay": 0.0},
    ]


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
