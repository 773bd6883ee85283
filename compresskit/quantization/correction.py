"""Bias correction: rounding weights shifts what a layer puts out on average, and its bias can take that back.

    E[Q(w) x] - E[w x] = sum over inputs i of (Q(w) - w)_i E[x_i]          Nagel et al. 2019, section 4.2, E[x] measured as in appendix D

Every tap of a kernel is taken to see the mean of its channel; at padded borders it sees a little less.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from compresskit.quantization.grid import Grid
from compresskit.quantization.layers import Layer
from compresskit.quantization.network import Network, attribute
from compresskit.quantization.statistics import Statistics


def corrected_biases(
    network: Network, layers: Sequence[Layer], weights: Mapping[str, Grid], statistics: Mapping[str, Statistics]
) -> dict[str, np.ndarray]:
    """The stored biases (C,) less the average shift, by name. A bias that several layers share stays as it is.

    Args:
        weights: grids by the weights' names.
        statistics: of what the layers read.
    """
    shared = Counter(layer.bias for layer in layers)
    corrected = {}
    for layer in layers:
        means = statistics[layer.input].channel_means
        if layer.bias is not None and shared[layer.bias] == 1 and means is not None:
            shift = _shift(layer, network.constants[layer.weight], weights[layer.weight], means)
            corrected[layer.bias] = (network.constants[layer.bias] - shift).astype(np.float32)
    return corrected


def _shift(layer: Layer, weight: np.ndarray, grid: Grid, means: np.ndarray) -> np.ndarray:
    """(C,) by how much the outputs move on average."""
    error = grid.round_trip(weight).astype(np.float64) - weight
    if layer.node.op_type != "Conv":
        return (error if layer.axis == 0 else error.T) @ means
    groups = attribute(layer.node, "group", 1)
    by_input = error.reshape(*error.shape[:2], -1).sum(axis=2).reshape(groups, -1, error.shape[1])  # (groups, outputs, inputs of a group)
    return np.einsum("goi,gi->go", by_input, means.reshape(groups, -1)).ravel()
