"""From a trained network back to stored tensors and grids."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from compresskit.quantization.grid import Grid
from compresskit.quantization.network import Network
from compresskit.quantization.qat.network import TrainableNetwork
from compresskit.quantization.quantizers import FakeQuant
from compresskit.quantization.weights import least_scale


@dataclass(frozen=True)
class Handed:
    """What training leaves behind.

    Attributes:
        network: with the trained weights and biases, not rounded.
        weights, activations: grids by tensor.
    """

    network: Network
    weights: dict[str, Grid]
    activations: dict[str, Grid]


def hand_over(module: TrainableNetwork) -> Handed:
    """Read a trained network, with a `FakeQuant` before every layer's weights and behind every planned activation."""
    network, plan = module.network, module.plan
    activations = {name: _quantizer(module.activation_module(name)).grid() for name in plan.tensors}
    trained: dict[str, np.ndarray] = {}
    weights: dict[str, Grid] = {}
    for layer in plan.layers:
        if layer.weight in weights:
            continue
        before = _quantizer(module.weight_module(layer.weight))
        latent, grid = before.carried(module.parameter(layer.weight)).detach().cpu().numpy(), before.grid()
        if layer.bias is not None:
            bias = module.parameter(layer.bias).detach().cpu().numpy()
            least = least_scale(bias, activations[layer.input]).astype(np.float32)
            grid, trained[layer.bias] = replace(grid, scale=np.maximum(grid.scale, least)), bias
        trained[layer.weight], weights[layer.weight] = latent, grid
    return Handed(network.edited(network.nodes, trained), weights, activations)


def _quantizer(module: object) -> FakeQuant:
    assert isinstance(module, FakeQuant), "every weight and activation of the plan is rounded"
    return module
