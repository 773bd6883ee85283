"""How far a layer's outputs are from those of the float network, as a function of its weights.

For a layer that put out y in the float network and now reads z, the error of weights v is a quadratic in them,

    E[(y - v z - b)^2] = v E[z z'] v' - 2 E[y z'] v' + E[y^2]          moments about the mean where b is free, else about 0

so sums over the samples say all that learned rounding needs, in memory that does not depend on their number. This is the asymmetric
reconstruction of Nagel et al. 2020 ("Up or Down?", equation 25) without the activation function.
"""

from __future__ import annotations

import numpy as np


class Moments:
    """Sums over rows of inputs (G, rows, K) and outputs (G, rows, O).

    Attributes:
        rows: seen.
        centered: whether the layer has a bias that takes what is wrong on average.
    """

    def __init__(self, groups: int, outputs: int, inputs: int, *, centered: bool) -> None:
        self.rows = 0
        self.centered = centered
        self._zz = np.zeros((groups, inputs, inputs))
        self._yz = np.zeros((groups, outputs, inputs))
        self._yy = np.zeros((groups, outputs))
        self._z = np.zeros((groups, inputs))
        self._y = np.zeros((groups, outputs))

    def update(self, z: np.ndarray, y: np.ndarray) -> None:
        """Take in rows of inputs and the float network's outputs for them."""
        z, y = z.astype(np.float32), y.astype(np.float32)
        self.rows += z.shape[1]
        self._zz += z.transpose(0, 2, 1) @ z
        self._yz += y.transpose(0, 2, 1) @ z
        self._yy += (y.astype(np.float64) ** 2).sum(axis=1)
        self._z += z.sum(axis=1, dtype=np.float64)
        self._y += y.sum(axis=1, dtype=np.float64)

    @property
    def curvature(self) -> np.ndarray:
        """(G, K, K): E[z z']."""
        return self._zz / self.rows - self._product(self._z, self._z)

    @property
    def pull(self) -> np.ndarray:
        """(G, O, K): E[y z']."""
        return self._yz / self.rows - self._product(self._y, self._z)

    def error(self, weights: np.ndarray) -> np.ndarray:
        """(G, O) mean squared errors of weights (G, O, K), the bias at its best where it is free."""
        power = self._yy / self.rows - (self._mean(self._y) ** 2 if self.centered else 0.0)
        return ((weights @ self.curvature - 2 * self.pull) * weights).sum(axis=2) + power

    def bias(self, weights: np.ndarray) -> np.ndarray:
        """(G, O): what added to the products of weights (G, O, K) makes their average that of the float network."""
        return self._mean(self._y) - np.einsum("gok,gk->go", weights, self._mean(self._z))

    def _mean(self, sums: np.ndarray) -> np.ndarray:
        return sums / self.rows

    def _product(self, left: np.ndarray, right: np.ndarray) -> np.ndarray | float:
        return self._mean(left)[:, :, None] * self._mean(right)[:, None, :] if self.centered else 0.0
