"""The inner loop: latents for patches, by a few damped Gauss-Newton steps that all patches share one Jacobian for.

The thesis takes gradient steps (section 5.2.2). Where latents are zero, samples of all patches have the same derivatives, so that one
eigendecomposition serves every patch and every damping (Levenberg 1944, Marquardt 1963): a step costs what a gradient step costs, and goes farther.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from compresskit.codec.modulation import Modulated, errors, jacobian

START, LOWER, RAISE = 1e-2, 0.5, 8.0
_FLOOR = 1e-12


@dataclass(frozen=True, eq=False)
class Solver:
    """Damped Gauss-Newton steps for one base network on one set of coordinates.

    Attributes:
        network: the base network.
        x: (N, dims) coordinates.
        vectors: (L, L) eigenvectors, in columns, of J'J / samples.
        values: (L,) their eigenvalues over the largest, and `largest`.
    """

    network: Modulated
    x: Tensor
    vectors: Tensor
    values: Tensor
    largest: float


def solver(network: Modulated, x: Tensor) -> Solver:
    """Prepare to fit patches whose samples lie at `x` (N, dims)."""
    derivatives = jacobian(network, x)
    values, vectors = torch.linalg.eigh((derivatives.T @ derivatives / len(derivatives)).double())
    largest = max(float(values[-1]), _FLOOR)
    return Solver(network, x, vectors.float(), (values / largest).clamp(min=0).float(), largest)


@torch.no_grad()
def fit(prepared: Solver, targets: Tensor, steps: int, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Fit latents to patches.

    A step that makes a patch worse is not taken, and that patch's next step is damped more: no patch ends worse than it began.

    Args:
        prepared: of `solver`.
        targets: (P, N, channels) in 0..1.
        steps: evaluations of network and gradient after the first.
        start: (P, L) latents to begin with; zeros where None.

    Returns:
        Latents (P, L) and their mean squared errors (P,).
    """
    network, x = prepared.network, prepared.x
    best = torch.zeros(len(targets), network.latents) if start is None else start
    loss, gradient = errors(network, x, targets, best)
    damping = torch.full((len(targets), 1), START)
    for _ in range(steps):
        step = (gradient @ prepared.vectors) / (prepared.largest * (prepared.values + damping))
        trial = best - step @ prepared.vectors.T
        trial_loss, trial_gradient = errors(network, x, targets, trial)
        better = (trial_loss < loss).unsqueeze(1)
        best, gradient = torch.where(better, trial, best), torch.where(better, trial_gradient, gradient)
        loss = torch.minimum(trial_loss, loss)
        damping = torch.where(better, damping * LOWER, damping * RAISE)
    return best, loss
