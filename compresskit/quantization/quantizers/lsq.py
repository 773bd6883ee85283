"""Learned step sizes (Esser et al. 2020, "Learned Step Size Quantization").

With v = x / s, clipped to -Qn ... Qp steps (equation 3):

    dq/ds = round(v) - v   where -Qn < v < Qp,    -Qn below,    Qp above            times g = 1 / sqrt(N Qp), section 2.2
    dq/dx = 1              where -Qn < v < Qp,    else 0                            equation 5

N: the weights that share a step; of activations the features of one sample. In g, Qp is the greatest integer of the grid, wherever its zero
point is, which stays where calibration put it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compresskit.quantization.grid import SMALLEST_SCALE, Grid
from compresskit.quantization.quantizers.base import QUANTIZERS, FakeQuant, Quantizer

FRACTIONS = np.linspace(1.0, 0.3, 15)
"""Of PTQ's step, that a weight's may start from."""


class LearnedStep(FakeQuant):
    """A grid whose scale is trained.

    Attributes:
        batched: whether axis 0 runs over samples.
    """

    def __init__(self, grid: Grid, *, batched: bool) -> None:
        super().__init__(grid)
        start = self.scale
        del self.scale
        self.scale = nn.Parameter(start)
        self.batched = batched

    def forward(self, x: Tensor) -> Tensor:
        shared = x.numel() / self.scale.numel() / (x.shape[0] if self.batched else 1)
        return learned_step(x, self.spread(self.steps(), x), *self.ends(x), (shared * self.high) ** -0.5)

    def steps(self) -> Tensor:
        return self.scale.abs().clamp_min(SMALLEST_SCALE)


def learned_step(x: Tensor, scale: Tensor, least: Tensor, most: Tensor, factor: float) -> Tensor:
    """`x` rounded to `least` ... `most` steps of `scale`, whose gradient is multiplied by `factor`."""
    return _LearnedStep.apply(x, scale, least, most, factor)


class _LearnedStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, least: Tensor, most: Tensor, factor: float) -> Tensor:
        steps = x / scale
        rounded = steps.round().clamp_(least, most)
        ctx.save_for_backward(steps, rounded, scale, least, most)
        ctx.factor = factor
        return rounded * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,) = gradients
        steps, rounded, scale, least, most = ctx.saved_tensors
        to_x = gradient * ((steps > least) & (steps < most))
        if scale.numel() == 1:  # an activation's: half of the time of a backward pass was spent on sums of products
            to_scale = (_inner(rounded, gradient) - _inner(steps, to_x)).reshape(scale.shape)
        else:
            to_scale = (gradient * rounded - to_x * steps).sum_to_size(scale.shape)
        return to_x, to_scale * ctx.factor, None, None, None


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """The sum of the products of two tensors' entries, without a tensor of them."""
    if a.ndim == 4 and a.is_contiguous(memory_format=torch.channels_last):
        a, b = a.permute(0, 2, 3, 1), b.permute(0, 2, 3, 1)  # views in the order of memory
    return torch.dot(a.reshape(-1), b.reshape(-1))


def fitted(grid: Grid, weight: Tensor) -> Grid:
    """The grid with finer steps where those change the weights least in the mean square: with few bits, the largest weight says little."""
    axes = tuple(axis for axis in range(weight.ndim) if grid.axis is None or axis != grid.axis % weight.ndim)
    values, best, least = weight.detach().numpy(), grid.scale, None
    for fraction in FRACTIONS:
        scale = np.maximum(grid.scale * np.float32(fraction), np.float32(SMALLEST_SCALE))
        error = ((replace(grid, scale=scale).round_trip(values) - values) ** 2).sum(axis=axes)
        best = scale if least is None else np.where(error < least, scale, best)
        least = error if least is None else np.minimum(error, least)
    return replace(grid, scale=np.asarray(best, np.float32))


QUANTIZERS.register("lsq")(
    Quantizer(weight=lambda grid, weight: LearnedStep(fitted(grid, weight), batched=False), activation=lambda grid: LearnedStep(grid, batched=True))
)
