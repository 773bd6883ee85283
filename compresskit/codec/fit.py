"""The inner loop: latents for patches, by a few gradient steps (thesis, eq. 5.9).

Base networks leave `calibrate` with latents in which distance is error, so that J'J is the identity for typical patches: a gradient
step of length 1 is a Gauss-Newton step (Levenberg 1944, Marquardt 1963, with damping for each patch), and no rates have to be learned.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compresskit.codec.modulation import Modulated, errors

START, LOWER, RAISE = 0.1, 0.5, 8.0
"""Damping of the first step, and what a good or a bad step makes of it."""


@torch.no_grad()
def fit(network: Modulated, x: Tensor, targets: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Fit latents to patches, from zero.

    A step that makes a patch worse is not taken, and that patch's next step is damped more: no patch ends worse than it began.

    Args:
        network: calibrated.
        x: (N, dims) coordinates of the points.
        targets: (P, N, channels) in 0..1.
        steps: evaluations of network and gradient after the first.

    Returns:
        Latents (P, L) and their mean squared errors (P,).
    """
    best = torch.zeros(len(targets), network.latents)
    loss, gradient = errors(network, x, targets, best)
    damping = torch.full((len(targets), 1), START)
    for _ in range(steps):
        trial = best - gradient / (1 + damping)
        trial_loss, trial_gradient = errors(network, x, targets, trial)
        better = (trial_loss < loss).unsqueeze(1)
        best, gradient = torch.where(better, trial, best), torch.where(better, trial_gradient, gradient)
        loss = torch.minimum(trial_loss, loss)
        damping = torch.where(better, damping * LOWER, damping * RAISE + 1)
    return best, loss
