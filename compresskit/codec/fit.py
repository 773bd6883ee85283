"""The inner loop: latents for patches. Where samples are linear in them they are solved for, else found by a few steps (thesis, eq. 5.9).

Base networks leave `calibrate` with latents in which distance is error, so that J'J is the identity where latents are typical, and a
gradient step of length 1 is a Gauss-Newton step. Far from there it may not be: a step is damped (Levenberg 1944, Marquardt 1963) in each direction
as much more as typical latents spread less, and latents that are not typical cost a little, as they will in bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compresskit.codec.modulation import Modulated, errors, jacobian, render

START, LOWER, RAISE = 0.01, 0.5, 4.0
"""Damping of the first step in the widest direction, and what a good or a bad step makes of it."""

PRIOR = 1e-4
"""Mean squared error that a latent may cost, times its square in units of its spread, times the variance of the widest."""

RIDGE = 1e-4
"""Mean squared error that a latent may cost, times its square, where patches of few samples leave it open."""


@torch.no_grad()
def solve(network: Modulated, x: Tensor, targets: Tensor) -> Tensor:
    """The latents (P, L) of least error, where patches are linear in them; the arguments are those of `fit`."""
    derivatives, count = jacobian(network, x), targets[0].numel()
    gram = (derivatives.T @ derivatives / count).double() + RIDGE * torch.eye(network.latents).double()
    wanted = (targets - render(network, x, torch.zeros(1, network.latents))).flatten(1) @ derivatives / count
    return torch.cholesky_solve(wanted.T.double(), torch.linalg.cholesky(gram)).T.float()


@torch.no_grad()
def fit(network: Modulated, spread: Tensor, x: Tensor, targets: Tensor, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Fit latents to patches.

    A step that makes a patch worse, error and cost together, is not taken, and that patch's next step is damped more.

    Args:
        network: calibrated.
        spread: (L,) standard deviations of typical latents.
        x: (N, dims) coordinates of the points.
        targets: (P, N, channels) in 0..1.
        start: (P, L) latents to begin with.
        steps: evaluations of network and gradient after the first.

    Returns:
        Latents (P, L) and their mean squared errors (P,).
    """
    narrow = (spread.max() / spread).square()
    best = start
    loss, gradient = errors(network, x, targets, best)
    cost = loss + PRIOR * (narrow * best.square()).sum(dim=1)
    damping = torch.full((len(targets), 1), START)
    for _ in range(steps):
        trial = best - (gradient + PRIOR * narrow * best) / (1 + (PRIOR + damping) * narrow)
        trial_loss, trial_gradient = errors(network, x, targets, trial)
        trial_cost = trial_loss + PRIOR * (narrow * trial.square()).sum(dim=1)
        better = (trial_cost < cost).unsqueeze(1)
        best, gradient = torch.where(better, trial, best), torch.where(better, trial_gradient, gradient)
        loss, cost = torch.where(better[:, 0], trial_loss, loss), torch.minimum(trial_cost, cost)
        damping = torch.where(better, damping * LOWER, damping * RAISE)
    return best, loss
