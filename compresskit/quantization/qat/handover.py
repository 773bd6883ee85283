"""From a trained network back to stored tensors and grids: norms folded, weights on the integers that training saw."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from compresskit.quantization.grid import SMALLEST_SCALE, Grid
from compresskit.quantization.layers import Layer
from compresskit.quantization.network import Network
from compresskit.quantization.qat.network import TrainableNetwork
from compresskit.quantization.qat.norms import affine
from compresskit.quantization.quantizers import FakeQuant
from compresskit.quantization.weights import least_scale


@dataclass(frozen=True)
class Handed:
    """What training leaves behind.

    Attributes:
        network: with the trained weights and biases, before rounding.
        rounded: with weights on their grids.
        weights, activations: grids by tensor.
    """

    network: Network
    rounded: Network
    weights: dict[str, Grid]
    activations: dict[str, Grid]


def hand_over(module: TrainableNetwork) -> Handed:
    """Read a trained network, with a `FakeQuant` before every layer's weights and behind every planned activation."""
    network, plan = module.network, module.plan
    activations = {name: _quantizer(module.activation_module(name)).grid() for name in plan.tensors}
    trained: dict[str, np.ndarray] = {}
    rounded: dict[str, np.ndarray] = {}
    weights: dict[str, Grid] = {}
    for layer in plan.layers:
        if layer.weight in weights:
            continue
        latent, found, grid, bias = _folded(module, layer)
        if layer.bias is not None and bias is not None:
            grid = replace(grid, scale=np.maximum(grid.scale, least_scale(bias, activations[layer.input]).astype(np.float32)))
            trained[layer.bias] = rounded[layer.bias] = bias
        trained[layer.weight], rounded[layer.weight], weights[layer.weight] = latent, grid.round_trip(found), grid
    return Handed(network.edited(network.nodes, trained), network.edited(network.nodes, rounded), weights, activations)


def _folded(module: TrainableNetwork, layer: Layer) -> tuple[np.ndarray, np.ndarray, Grid, np.ndarray | None]:
    """A layer's weights before and after rounding, their grid, and its bias, all with the norm behind it folded in."""
    quantizer, parameter = _quantizer(module.weight_module(layer.weight)), module.parameter(layer.weight)
    latent, grid = quantizer.carried(parameter).detach().cpu().numpy(), quantizer.grid()
    bias = None if layer.bias is None else module.parameter(layer.bias).detach().cpu().numpy()
    found = affine(module, layer)
    if found is None:
        return latent, grid.round_trip(latent), grid, bias
    gain, shift = (values.cpu().numpy() for values in found)
    spread = gain.reshape([-1 if axis == layer.axis else 1 for axis in range(latent.ndim)])
    scale = np.maximum(grid.scale * np.abs(gain), SMALLEST_SCALE).astype(np.float32)
    folded = replace(grid, scale=scale, zero=np.broadcast_to(grid.zero, scale.shape), axis=layer.axis)
    on_grid = (grid.round_trip(latent) * spread).astype(np.float32)
    return (latent * spread).astype(np.float32), on_grid, folded, None if bias is None else (bias * gain + shift).astype(np.float32)


def _quantizer(module: object) -> FakeQuant:
    assert isinstance(module, FakeQuant), "every weight and activation of the plan is rounded"
    return module
