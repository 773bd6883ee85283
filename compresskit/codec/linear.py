"""Where a base network begins: near latents of zero it gives patches as their principal components do.

There a network is linear in its latents, output(z) = output(0) + S M z, S being the derivatives of samples with respect to shifts and M the
mapping. For given weights of the SIREN, the best M is a ridge regression, so that the weights alone are searched for, all samples at once
(variable projection: Golub and Pereyra 1973):

    minimize   |T - S M|^2 + ridge |M|^2 + |output(0) - mean|^2    where   M = (S'S + ridge)^-1 S'T

The ridge keeps shifts so small that sines are nearly straight as far as latents reach. Samples are those of the grid and others between
them, by cubic splines: patches of other edges have theirs elsewhere.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor
from torch.nn import functional as F

from compresskit.codec.modulation import Modulated, backwards
from compresskit.codec.siren import Siren
from compresskit.errors import GuardError
from compresskit.progress import SILENT, Progress

RIDGE = 1 / 32
"""Mean squared error that shifts may cost, times their squares."""

HISTORY = 100
"""Steps that L-BFGS remembers."""


def between(fields: Tensor, edges: tuple[int, ...], count: int, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Points somewhere in the cells of a grid, and what smooth fields are there.

    Args:
        fields: (N, F) at the centres of all cells, which fill [-1, 1] in each dimension.
        edges: cells in each dimension.
        count: points in each cell.
        generator: of the places.

    Returns:
        Coordinates (N x count, dims), and fields (N x count, F) there.
    """
    shape = np.array(edges)
    cells = np.tile(np.indices(edges).reshape(len(edges), -1).T, (count, 1))
    places = np.clip(cells + generator.uniform(-0.5, 0.5, cells.shape), 0, shape - 1)
    grids = fields.numpy().reshape(*edges, -1)
    found = [map_coordinates(grids[..., field], places.T, order=3, mode="mirror") for field in range(fields.shape[1])]
    return torch.from_numpy((2 * places + 1) / shape - 1).float(), torch.from_numpy(np.stack(found, axis=1)).float()


def linear_start(siren: Siren, x: Tensor, mean: Tensor, components: Tensor, iterations: int, progress: Progress = SILENT) -> Modulated:
    """The network from which training starts, `siren` being where the search for it starts.

    Args:
        siren: is left as it is.
        x: (N, dims) coordinates of the samples of a patch.
        mean: (N, channels) the output where latents are zero, less MIDDLE.
        components: (N, channels, L) what the output changes by for a latent of 1.
        iterations: of L-BFGS.
        progress: told every evaluation; a search that stands still ends early.

    Raises:
        GuardError: the search diverged.
    """
    weights, biases = ([tensor.clone().requires_grad_() for tensor in tensors] for tensors in (siren.weights, siren.biases))
    found = Siren(tuple(weights), tuple(biases), siren.omega)
    optimizer = torch.optim.LBFGS(
        [*weights, *biases],
        max_iter=iterations,
        max_eval=2 * iterations,
        history_size=HISTORY,
        line_search_fn="strong_wolfe",
        tolerance_grad=0,
        tolerance_change=0,
    )
    scale = components.square().sum(dim=-1).mean()

    def evaluated() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        output, derivatives = _linearized(found, x)
        mapping = _regression(derivatives, components)
        missed = (components - derivatives @ mapping).square().sum(dim=-1).mean()
        loss = missed + RIDGE * mapping.square().sum() + (output - mean).square().mean()
        (loss / scale).backward()
        progress.advance(1, psnr=-10 * math.log10(loss.item()))
        return loss.detach() / scale

    try:
        optimizer.step(evaluated)
        with torch.no_grad():
            mapping = _regression(_linearized(found, x)[1], components)
    except (torch.linalg.LinAlgError, ValueError):
        raise GuardError("training diverged before its first step: the data's samples, or the network's sizes, are too extreme") from None
    return Modulated(Siren(tuple(w.detach() for w in weights), tuple(b.detach() for b in biases), siren.omega), mapping)


def _linearized(siren: Siren, x: Tensor) -> tuple[Tensor, Tensor]:
    """The output (N, channels), less MIDDLE, and its derivatives (N, channels, hidden layers x width) with respect to shifts; differentiable."""
    slopes = []
    *hidden, (weight, bias) = zip(siren.weights, siren.biases, strict=True)
    for matrix, offset in hidden:
        angle = siren.omega * F.linear(x, matrix, offset)
        slopes.append(siren.omega * torch.cos(angle))
        x = torch.sin(angle)
    units = torch.eye(len(bias)).unsqueeze(1).expand(-1, len(x), -1)
    by_layer = list(backwards(siren, units, slopes))
    return F.linear(x, weight, bias), torch.cat(by_layer[::-1], dim=2).transpose(0, 1)


def _regression(derivatives: Tensor, components: Tensor) -> Tensor:
    """The mapping (shifts, L) that `components` (N, channels, L) ask for, of `derivatives` (N, channels, shifts)."""
    features, wanted = derivatives.flatten(0, 1), components.flatten(0, 1)
    gram = features.T @ features / len(features) + RIDGE * torch.eye(features.shape[1])
    return torch.cholesky_solve(features.T @ wanted / len(features), torch.linalg.cholesky(gram))
