"""How far a layer's outputs are from those of the float network, as a function of its weights.

For a layer that put out y in the float network and now reads z, the error of weights v is a quadratic in them,

    E[(y - v z - b)^2] = v E[z z'] v' - 2 E[y z'] v' + E[y^2]          moments about the mean where b is free, else about 0

so sums over the samples say all that learned rounding needs, in memory that does not depend on their number. This is the asymmetric
reconstruction of Nagel et al. 2020 ("Up or Down?", equation 25) without the activation function.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

_DAMPING = 0.5


@dataclass(frozen=True)
class LayerError:
    """The error of a layer's outputs as a function of its weights.

    Attributes:
        curvature: (G, K, K): E[z z'].
        pull: (G, O, K): E[y z'].
        power: (G, O): E[y^2].
        inputs, outputs: (G, K) and (G, O): E[z] and E[y].
        rows: that it was estimated from.
    """

    curvature: np.ndarray
    pull: np.ndarray
    power: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray
    rows: int

    def error(self, weights: np.ndarray) -> np.ndarray:
        """(G, O) mean squared errors of weights (G, O, K), the bias at its best where it is free."""
        return ((weights @ self.curvature - 2 * self.pull) * weights).sum(axis=2) + self.power

    def bias(self, weights: np.ndarray) -> np.ndarray:
        """(G, O): what added to the products of weights (G, O, K) makes their average that of the float network."""
        return self.outputs - np.einsum("gok,gk->go", weights, self.inputs)

    def damped(self, weights: np.ndarray) -> LayerError:
        """The error if every input also varied a little by itself, alike in both networks: what `weights` are rounded by where rows are few.

        By as much of its variance as few rows leave uncertain, K / rows: with it, inputs that only seem to go together are not played off against
        each other. Measured on rows that were not seen, roundings for 8 to 64 rows of 256 inputs then make half the error.
        """
        more = _DAMPING * weights.shape[2] / self.rows * np.diagonal(self.curvature, axis1=1, axis2=2)[:, None, :]
        curvature = self.curvature + np.eye(weights.shape[2]) * more
        return replace(self, curvature=curvature, pull=self.pull + weights * more, power=self.power + (weights**2 * more).sum(axis=2))


class Moments:
    """Sums over rows of inputs (G, rows, K) and outputs (G, rows, O)."""

    def __init__(self, groups: int, outputs: int, inputs: int) -> None:
        self._rows = 0
        self._zz = np.zeros((groups, inputs, inputs))
        self._yz = np.zeros((groups, outputs, inputs))
        self._yy = np.zeros((groups, outputs))
        self._z = np.zeros((groups, inputs))
        self._y = np.zeros((groups, outputs))

    def update(self, z: np.ndarray, y: np.ndarray) -> None:
        """Take in rows of inputs and the float network's outputs for them."""
        z, y = z.astype(np.float32), y.astype(np.float32)
        self._rows += z.shape[1]
        self._zz += z.transpose(0, 2, 1) @ z
        self._yz += y.transpose(0, 2, 1) @ z
        self._yy += (y.astype(np.float64) ** 2).sum(axis=1)
        self._z += z.sum(axis=1, dtype=np.float64)
        self._y += y.sum(axis=1, dtype=np.float64)

    def layer_error(self, *, free_bias: bool) -> LayerError:
        """What all rows say of a layer, with a bias that takes what is wrong on average or without one."""
        zz, yz, yy, z, y = (total / self._rows for total in (self._zz, self._yz, self._yy, self._z, self._y))
        if free_bias:
            zz -= z[:, :, None] * z[:, None, :]
            yz -= y[:, :, None] * z[:, None, :]
            yy -= y**2
        return LayerError(zz, yz, yy, z, y, self._rows)
