"""Meta-gradients: gradients through steps of gradient descent, one step's graph in memory at a time.

w_0 ──g_0──► w_1 ──g_1──► ... ──► w_M ──► L        forward: only the points w_m are kept
 u  ◄─H_0──  u  ◄─H_1──   ...  ◄── dL/dw_M         backward: each step is computed again at its point
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from compresskit.pruning.at_init.base import Batch
from compresskit.pruning.at_init.masks import Tensors
from compresskit.pruning.at_init.network import Loss, gradients, inner


@dataclass(frozen=True)
class Descent:
    """Gradient descent with momentum, as `torch.optim.SGD` does it: `v <- momentum v + dL/dw`, `w <- w - lr v`, from v = 0."""

    loss: Loss
    lr: float
    momentum: float

    def points(self, weights: Tensors, batches: Sequence[Batch]) -> Iterator[Tensors]:
        """`weights`, then what they are after each step, a batch a step; ends early before the first that is not finite."""
        velocity = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        yield weights
        for batch in batches:
            found = self.gradient(weights, batch)
            velocity = {name: self.momentum * velocity[name] + found[name] for name in weights}
            weights = {name: weight - self.lr * velocity[name] for name, weight in weights.items()}
            if not finite(weights):
                return
            yield weights

    def gradient(self, weights: Tensors, batch: Batch) -> Tensors:
        """dL/dw."""
        leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
        return gradients(self.loss(leaves, batch), leaves)

    def backward(self, points: Sequence[Tensors], batches: Sequence[Batch], adjoint: Tensors) -> Tensors:
        """From `adjoint` = dL/dw_M to dL/dw_0, exactly, through the steps that began at `points` w_0 ... w_{M-1} (the thesis's eq. 3.11).

        By the chain rule a step takes dL/dw, dL/dv to dL/dw + H u, momentum u, with u = dL/dv - lr dL/dw and H the step's Hessian.
        """
        inertia = {name: torch.zeros_like(value) for name, value in adjoint.items()}
        for weights, batch in zip(reversed(points), reversed(batches), strict=True):
            direction = {name: inertia[name] - self.lr * value for name, value in adjoint.items()}
            curvature = self._hessian_times(weights, batch, direction)
            adjoint = {name: value + curvature[name] for name, value in adjoint.items()}
            inertia = {name: self.momentum * value for name, value in direction.items()}
        return adjoint

    def _hessian_times(self, weights: Tensors, batch: Batch, direction: Tensors) -> Tensors:
        leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
        found = gradients(self.loss(leaves, batch), leaves, create_graph=True)
        return gradients(inner(found, direction), leaves)


def finite(tensors: Tensors) -> bool:
    """Whether every entry is a number."""
    return all(bool(tensor.isfinite().all()) for tensor in tensors.values())
