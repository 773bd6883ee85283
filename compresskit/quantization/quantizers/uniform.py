"""Uniform affine grids over the ranges that training sees (Jacob et al. 2018, section 3).

A weight's range is that of the moment; an activation's is a moving average of the batches' extremes. Ranges stop moving before the weights
do, so that the last steps fit weights to what will be.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compresskit.quantization.grid import SMALLEST_SCALE, Grid
from compresskit.quantization.quantizers.base import QUANTIZERS, FakeQuant, Quantizer

MOMENTUM = 0.05
"""Of one batch in the moving average of an activation's range."""


class Observer(FakeQuant):
    """A grid over the range of what comes in, as long as it is trained and `watching`.

    Attributes:
        momentum: of what comes in; 1: the range of the last tensor.
        watching: whether the range still moves. A buffer, so that checkpoints keep it.
    """

    watching: Tensor
    reach: Tensor

    def __init__(self, grid: Grid, momentum: float) -> None:
        super().__init__(grid)
        self.momentum = momentum
        self.symmetric = grid.low == -grid.high
        ends = [(end - self.zero.double()) * self.scale.double() for end in (grid.low, grid.high)]
        self.register_buffer("reach", torch.stack(ends))
        self.register_buffer("watching", torch.tensor(True))

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.watching:
            self.observe(x)
        return super().forward(x)

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Move the range, and the grid with it, towards that of `x`; 0 is always within."""
        across = [axis for axis in range(x.ndim) if self.axis is None or axis != self.axis % x.ndim]
        seen = torch.stack([x.amin(across).clamp(max=0), x.amax(across).clamp(min=0)]).double()
        self.reach.lerp_(seen, self.momentum)
        low, high = self.reach
        if self.symmetric:
            self.scale.copy_(_steps(torch.maximum(-low, high), self.high))
            return
        width = _steps(high - low, self.high - self.low)
        self.scale.copy_(width)
        self.zero.copy_((self.low - low / width).round().clamp(self.low, self.high))


def _steps(width: Tensor, count: int) -> Tensor:
    """A range as so many steps; one of no width gives steps that reach to 1."""
    return torch.where(width > 0, width / count, 1 / count).clamp_min(SMALLEST_SCALE)


QUANTIZERS.register("uniform")(Quantizer(weight=lambda grid, _: Observer(grid, 1.0), activation=lambda grid: Observer(grid, MOMENTUM)))
