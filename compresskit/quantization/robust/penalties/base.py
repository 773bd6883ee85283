"""The registry of penalties, and what they see: one forward pass, with the tensors that quantization would round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from compresskit.registry import Registry


@dataclass(frozen=True)
class Pass:
    """A forward pass whose graph is kept.

    Attributes:
        loss: scalar, the mean over N samples.
        weights: of the layers.
        activations: (N, ...) what comes out of the network's operators and would be rounded; its own input is not among them.
    """

    loss: Tensor
    weights: tuple[Tensor, ...]
    activations: tuple[Tensor, ...]

    def gradients(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Those of the loss by weights and by activations, differentiable in turn. A tensor that the loss does not depend on has none."""
        found = torch.autograd.grad(self.loss, (*self.weights, *self.activations), create_graph=True, materialize_grads=True)
        return found[: len(self.weights)], found[len(self.weights) :]


Penalty = Callable[[Pass], Tensor]
"""From a pass to a scalar, not negative, whose gradient reaches the weights."""

PENALTIES: Registry[Penalty] = Registry("penalty")
