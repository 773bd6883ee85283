"""Noise and its removal: the forward process of denoising diffusion and deterministic steps back (Ho et al. 2020; Song et al. 2021).

    x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise,      a_t from 1 at t = 0 to almost 0 at t = 1

The networks predict `v = sqrt(a_t) noise - sqrt(1 - a_t) x_0` (Salimans and Ho 2022), from which both parts follow at any noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

OFFSET = 0.008

Predict = Callable[[Tensor, Tensor], Tensor]
"""From noisy samples (N, ...) and their times (N,) to v, shaped like the samples."""


def kept(t: Tensor) -> Tensor:
    """a_t: the share of the signal's power at times `t` in [0, 1], by a cosine (Nichol and Dhariwal 2021, equation 17)."""
    angle = (t + OFFSET) / (1 + OFFSET) * math.pi / 2
    return (angle.cos() / math.cos(OFFSET / (1 + OFFSET) * math.pi / 2)).square().clamp(1e-5, 1.0)


def noised(x: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The samples `x` (N, ...) at times `t` (N,), and the v that a network should predict of them."""
    signal, rest = _factors(t, x.ndim)
    return signal * x + rest * noise, signal * noise - rest * x


def parts(x: Tensor, v: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The clean samples and the noise that noisy samples `x` at times `t` consist of, if `v` is right."""
    signal, rest = _factors(t, x.ndim)
    return signal * x - rest * v, rest * x + signal * v


@torch.no_grad()
def sample(predict: Predict, noise: Tensor, steps: int, *, bound: float | None = None) -> Tensor:
    """Samples from `noise` (N, ...) in `steps` deterministic steps (DDIM, equation 12 with eta 0).

    Args:
        bound: clean samples lie within this of 0; None: anywhere.
    """
    x = noise
    times = torch.linspace(1, 0, steps + 1, device=noise.device)
    for now, after in pairwise(times):
        t = now.expand(len(x))
        clean, left = parts(x, predict(x, t), t)
        if bound is not None:
            clean = clean.clamp(-bound, bound)
        signal, rest = _factors(after.expand(len(x)), x.ndim)
        x = signal * clean + rest * left
    return clean


def _factors(t: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    share = kept(t).view(-1, *[1] * (rank - 1))
    return share.sqrt(), (1 - share).clamp(min=0).sqrt()
