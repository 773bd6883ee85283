"""Weights as nested residuals, so that a gate says how many bits they have.

    Wq = W_2 + a_4 (E_4 + a_8 E_8)          E_4 = W_4 - W_2,  E_8 = W_8 - W_4,  W_b: W rounded to b bits

The parameterization of L1/L2 surrogates for learned bit widths, after Bayesian Bits (van Baalen et al. 2020). Gates of ones give W_8.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from compresskit.quantization.grid import Grid, symmetric
from compresskit.quantization.quantizers import FakeQuant

FRACTIONS = np.linspace(0.1, 1.0, 37)  # of the largest weight: where a grid may end


class Nested(nn.Module):
    """What stands before a layer's weights while their width is learned.

    Attributes:
        mask: (weights, 2) the gates of all layers, of which it reads one row; the network's, not its own.
    """

    def __init__(self, grids: Sequence[Grid], mask: nn.Parameter, row: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(FakeQuant(grid) for grid in grids)
        self._mask, self._row = [mask], row  # in a list, so that the gates stay the parameter of one module

    def forward(self, weight: Tensor) -> Tensor:
        coarse, middle, fine = (level(weight) for level in self.levels)
        first, second = self._mask[0][self._row]
        return coarse + first * (middle - coarse + second * (fine - middle))


def nested_grid(weight: np.ndarray, bits: int, axis: int, least: np.ndarray | float = 0.0) -> Grid:
    """A symmetric grid with a scale a channel. Of 2 bits, which are three levels, it ends where the squared error is least; others cover all.

    Args:
        least: scales are at least this.
    """
    whole = symmetric(weight, bits, axis=axis, least=least)
    if bits > 2:
        return whole
    spread = tuple(other for other in range(weight.ndim) if other != axis)
    floors = np.broadcast_to(np.asarray(least, np.float32), whole.scale.shape)
    scales = [np.maximum(whole.scale * np.float32(fraction), floors) for fraction in FRACTIONS]
    grids = [Grid(scale, whole.zero, whole.low, whole.high, axis) for scale in scales]
    errors = np.stack([((grid.round_trip(weight) - weight).astype(np.float64) ** 2).sum(axis=spread) for grid in grids])
    best = np.stack(scales)[errors.argmin(axis=0), np.arange(len(whole.scale))]
    return Grid(best.astype(np.float32), whole.zero, whole.low, whole.high, axis)


def residual_noise(weight: np.ndarray, grids: Sequence[Grid]) -> np.ndarray:
    """(2,) what closing each gate adds to the error of the weights, as a fraction of their power."""
    power = float((weight.astype(np.float64) ** 2).sum()) or 1.0
    errors = [float(((grid.round_trip(weight) - weight).astype(np.float64) ** 2).sum()) / power for grid in grids]
    return np.maximum(-np.diff(errors), 0.0)
