"""Meta-gradients: gradients through steps of gradient descent, one step's graph in memory at a time.

w_0 ──g_0──► w_1 ──g_1──► ... ──► w_M ──► g_M     forward: weights and gradients are kept, graphs are not
 u  ◄─H_0──   u  ◄─H_1──  ...  ◄───────── g_M     backward: each step is computed again where it began
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from compresskit.pruning.at_init.base import Batch
from compresskit.pruning.at_init.masks import Tensors
from compresskit.pruning.at_init.network import Loss, gradients, inner


@dataclass(frozen=True)
class Point:
    """Where a descent is after `steps` steps, and the `gradient` of the loss on `batch` there."""

    steps: int
    weights: Tensors
    batch: Batch
    gradient: Tensors


@dataclass(frozen=True)
class Descent:
    """Gradient descent with momentum, as `torch.optim.SGD` does it: `v <- momentum v + dL/dw`, `w <- w - lr v`, from v = 0."""

    loss: Loss
    lr: float
    momentum: float

    def path(self, weights: Tensors, batches: Iterable[Batch]) -> Iterator[Point]:
        """From `weights` on, a point a batch; ends early before the first that is not finite."""
        velocity = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        for steps, batch in enumerate(batches):
            leaves = _leaves(weights)
            gradient = gradients(self.loss(leaves, batch), leaves)
            if not (finite(weights) and finite(gradient)):
                return
            yield Point(steps, weights, batch, gradient)
            velocity = {name: self.momentum * velocity[name] + value for name, value in gradient.items()}
            weights = {name: weight - self.lr * velocity[name] for name, weight in weights.items()}

    def backward(self, points: Sequence[Point], adjoint: Tensors) -> Tensors:
        """From `adjoint` = dL/dw_M to dL/dw_0, exactly, through the steps that began at `points` 0 ... M-1 (the thesis's eq. 3.11).

        By the chain rule a step takes dL/dw, dL/dv to dL/dw + H u, momentum u, with u = dL/dv - lr dL/dw and H the step's Hessian.
        """
        inertia = {name: torch.zeros_like(value) for name, value in adjoint.items()}
        for point in reversed(points):
            direction = {name: inertia[name] - self.lr * value for name, value in adjoint.items()}
            curvature = self._hessian_times(point, direction)
            adjoint = {name: value + curvature[name] for name, value in adjoint.items()}
            inertia = {name: self.momentum * value for name, value in direction.items()}
        return adjoint

    def _hessian_times(self, point: Point, direction: Tensors) -> Tensors:
        leaves = _leaves(point.weights)
        gradient = gradients(self.loss(leaves, point.batch), leaves, create_graph=True)
        return gradients(inner(gradient, direction), leaves)


def _leaves(weights: Tensors) -> Tensors:
    return {name: weight.detach().requires_grad_() for name, weight in weights.items()}


def finite(tensors: Tensors) -> bool:
    """Whether every entry is a number."""
    return all(bool(tensor.isfinite().all()) for tensor in tensors.values())
