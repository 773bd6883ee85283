"""Where a base network begins: it gives patches as their principal components do.

Samples are linear in the output layer, which latents modulate, so that for given hidden layers the best output layers are a regression on what
these layers make of coordinates. The hidden layers alone are searched for, all samples at once (variable projection: Golub and Pereyra 1973):

    minimize   |T - H M|^2 + ridge |M|^2    where   M = (H'H + ridge)^-1 H'T

T being the mean patch and the components at all samples, H the last hidden layer's activations there and 1. Samples are those of the grid and
others between them, by cubic splines: patches of other edges have theirs elsewhere.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor

from compresskit.codec.modulation import Modulated, features
from compresskit.codec.siren import Siren
from compresskit.errors import GuardError
from compresskit.progress import SILENT, Progress

RIDGE = 1e-6
"""Mean squared error that weights may cost, times their squares: what integers of weights leave of them is far less."""

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
        siren: is left as it is; its output layer is of no account.
        x: (N, dims) coordinates of the samples of a patch.
        mean: (N, channels) the output where latents are zero, less MIDDLE.
        components: (N, channels, L) what the output changes by for a latent of 1.
        iterations: of L-BFGS.
        progress: told every evaluation; a search that stands still ends early.

    Raises:
        GuardError: the search diverged.
    """
    weights, biases = ([tensor.clone().requires_grad_() for tensor in tensors[:-1]] for tensors in (siren.weights, siren.biases))
    found = Siren((*weights, siren.weights[-1]), (*biases, siren.biases[-1]), siren.omega)
    optimizer = torch.optim.LBFGS(
        [*weights, *biases],
        max_iter=iterations,
        max_eval=2 * iterations,
        history_size=HISTORY,
        line_search_fn="strong_wolfe",
        tolerance_grad=0,
        tolerance_change=0,
    )
    wanted = torch.cat([mean.unsqueeze(2), components], dim=2).flatten(1)
    scale = components.square().sum(dim=-1).mean()

    def evaluated() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        known = features(found, x)
        layers = _regression(known, wanted)
        loss = ((wanted - known @ layers).square().sum(dim=1).mean() + RIDGE * layers.square().sum()) / mean.shape[1]
        (loss / scale).backward()
        progress.advance(1, psnr=-10 * math.log10(loss.item()))
        return loss.detach() / scale

    try:
        optimizer.step(evaluated)
        with torch.no_grad():
            layers = _regression(features(found, x), wanted)
    except (torch.linalg.LinAlgError, ValueError):
        raise GuardError("training diverged before its first step: the data's samples, or the network's sizes, are too extreme") from None
    output, mapping = layers.T.reshape(mean.shape[1], -1, len(layers)).tensor_split([1], dim=1)
    siren = Siren((*(w.detach() for w in weights), output[:, 0, :-1].clone()), (*(b.detach() for b in biases), output[:, 0, -1].clone()), siren.omega)
    return Modulated(siren, mapping.transpose(1, 2).flatten(0, 1))


def _regression(known: Tensor, wanted: Tensor) -> Tensor:
    """The matrix (width + 1, F) that makes `wanted` (N, F) of what hidden layers `know` (N, width + 1)."""
    gram = known.T @ known / len(known) + RIDGE * torch.eye(known.shape[1])
    return torch.cholesky_solve(known.T @ wanted / len(known), torch.linalg.cholesky(gram))
