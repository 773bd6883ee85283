"""The grids of stored weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import numpy as np

from compresskit.quantization.grid import Grid, symmetric
from compresskit.quantization.layers import Layer
from compresskit.quantization.network import Network

Bits: TypeAlias = int | Mapping[str, int]
"""Of every stored weight, or of each by its name."""

_BIAS_ROOM = 2.0**30  # biases are of 32 bits; sums of products need the rest


def weight_grids(network: Network, layers: Iterable[Layer], bits: Bits, inputs: Mapping[str, Grid] | None = None) -> dict[str, Grid]:
    """A symmetric grid with a scale an output channel for every stored weight, by its name. It covers the largest weight at any width:
    clipping for the least squared error made both published ResNet-20s worse at 4 bits.

    Args:
        bits: of all, or of each.
        inputs: the grids of what the layers read; None: only weights are quantized. A channel's bias has steps of input scale x weight scale,
            so where weights are tiny beside the bias their scale grows until the bias fits.
    """
    axes: dict[str, int] = {}
    least: dict[str, np.ndarray] = {}
    for layer in layers:
        axes[layer.weight] = layer.axis
        if layer.bias is not None and inputs is not None:
            needed = least_scale(network.constants[layer.bias], inputs[layer.input])
            least[layer.weight] = np.maximum(least.get(layer.weight, np.zeros_like(needed)), needed)
    widths = dict.fromkeys(axes, bits) if isinstance(bits, int) else bits
    return {name: symmetric(network.constants[name], widths[name], axis=axis, least=least.get(name, 0.0)) for name, axis in axes.items()}


def least_scale(bias: np.ndarray, input: Grid) -> np.ndarray:
    """(C,) the finest steps of weights that let a bias (C,), in steps of their product with the input's, fit its 32 bits."""
    return np.abs(bias.astype(np.float64)) / (_BIAS_ROOM * float(input.scale))


def quantized_bias(bias: np.ndarray, input: Grid, weight: Grid) -> tuple[np.ndarray, np.ndarray]:
    """A bias (C,) as int32, and its scales: those of the products that it is added to."""
    scale = (np.float64(input.scale) * weight.scale.astype(np.float64)).astype(np.float32)
    return np.clip(np.rint(bias.astype(np.float64) / scale), -(2**31 - 1), 2**31 - 1).astype(np.int32), scale
