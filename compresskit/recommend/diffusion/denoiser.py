"""A denoiser in training: the network, and the running average of its weights that samples are drawn with."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compresskit.recommend.diffusion.process import noised, sample

DECAY = 0.999
UNCONDITIONAL = 0.1
"""Share of the training samples whose class is hidden, so that guidance has something to go away from (Ho and Salimans 2022)."""


class Denoiser(nn.Module):
    """What `train` trains.

    Attributes:
        network: of (x, t, y) to v.
        averaged: the same with averaged weights; no gradient reaches them, and a checkpoint holds them.
        classes: their number; a class number of `classes` stands for none.
    """

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.network, self.classes = network, classes
        self.averaged = copy.deepcopy(network).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """What the training loop asks of any module; samples come from `draw`."""
        return x

    @torch.no_grad()
    def average(self, step: int) -> None:
        """Move the average towards the weights after update `step`; faster at first, when there is little to keep."""
        decay = min(DECAY, (1 + step) / (10 + step))
        for mean, now in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(now, 1 - decay)

    @torch.no_grad()
    def draw(
        self, y: Tensor, shape: tuple[int, ...], *, steps: int, guidance: float, generator: torch.Generator, bound: float | None = None
    ) -> Tensor:
        """One sample (N, *shape) for each of the classes `y` (N,).

        Args:
            guidance: how far to go beyond the class's own prediction, away from that without a class; 0: not.
        """
        nothing = torch.full_like(y, self.classes)

        def predict(x: Tensor, t: Tensor) -> Tensor:
            own = self.averaged(x, t, y)
            return own if guidance == 0 else own + guidance * (own - self.averaged(x, t, nothing))

        return sample(predict, torch.randn(len(y), *shape, generator=generator), steps, bound=bound)


def denoising(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error of v at random times, of samples `x` (N, ...) with classes `y` (N,): the objective."""
    assert isinstance(module, Denoiser)
    t = torch.rand(len(x), device=x.device)
    hidden = torch.rand(len(x), device=x.device) < UNCONDITIONAL
    noisy, v = noised(x, torch.randn_like(x), t)
    return F.mse_loss(module.network(noisy, t, torch.where(hidden, module.classes, y)), v)
