"""Simulated quantization: floats rounded to a grid, with a gradient in spite of it.

forward   q = clip(round(x / scale), low - zero, high - zero) * scale            Grid.round_trip to the bit
backward  dq/dx = 1 where nothing was clipped, else 0                            the straight-through estimator (Bengio et al. 2013)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compresskit.quantization.grid import Grid
from compresskit.registry import Registry


class FakeQuant(nn.Module):
    """A tensor in, the same tensor as it is after quantization out.

    Attributes:
        low, high, axis: of the grid.
        scale, zero: of the grid, float32; what a method learns or observes of them is its own affair.
    """

    scale: Tensor
    zero: Tensor

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.low, self.high, self.axis = grid.low, grid.high, grid.axis
        self.register_buffer("scale", torch.tensor(grid.scale, dtype=torch.float32))
        self.register_buffer("zero", torch.tensor(grid.zero, dtype=torch.float32))
        # Nothing but a shape, by which training tells checkpoints of other widths from its own.
        self.register_buffer("levels", torch.empty(grid.high - grid.low + 1, 0))

    def forward(self, x: Tensor) -> Tensor:
        x = self.carried(x)
        return straight_through(x, self.spread(self.steps(), x), *self.ends(x))

    def steps(self) -> Tensor:
        """The scale in force, above 0."""
        return self.scale

    def carried(self, x: Tensor) -> Tensor:
        """What is rounded: `x`, or what the method makes of it first."""
        return x

    def start(self, x: Tensor) -> Tensor:
        """The parameter of which `carried` makes `x`."""
        return x

    def grid(self) -> Grid:
        """The grid in force: `forward(x)` is its round trip of `carried(x)`."""
        scale, zero = self.steps().detach().cpu().numpy(), self.zero.cpu().numpy()
        return Grid(scale.copy(), zero.astype(np.int32), self.low, self.high, self.axis)

    def ends(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The least and the greatest number of steps, such that they broadcast to `x`."""
        zero = self.spread(self.zero, x)
        return self.low - zero, self.high - zero

    def spread(self, values: Tensor, x: Tensor) -> Tensor:
        """(C,) values, or (), such that they broadcast to `x`."""
        return values if self.axis is None else values.reshape([-1 if axis == self.axis % x.ndim else 1 for axis in range(x.ndim)])


@dataclass(frozen=True)
class Quantizer:
    """One method.

    Attributes:
        weight: from the grid that PTQ chose, and the float weights, to what stands before a layer's weights.
        activation: likewise for an activation (N, ...).
    """

    weight: Callable[[Grid, Tensor], FakeQuant]
    activation: Callable[[Grid], FakeQuant]


QUANTIZERS: Registry[Quantizer] = Registry("quantizer")


def straight_through(x: Tensor, scale: Tensor, least: Tensor, most: Tensor) -> Tensor:
    """`x` rounded to `least` ... `most` steps of `scale`, all of which broadcast to it. No gradient reaches `scale`."""
    return _StraightThrough.apply(x, scale, least, most)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, least: Tensor, most: Tensor) -> Tensor:
        steps = (x / scale).round_()
        clipped = steps.clamp(least, most)
        ctx.save_for_backward(steps == clipped)
        return clipped.mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None
