"""SIREN: a multilayer perceptron with sine activations (Sitzmann et al. 2020; thesis, eq. 5.2), in torch and to and from integers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from compresskit.codec.exact import MAX_FRACTION, OFFSET_LIMIT, WEIGHT_LIMIT, IntegerLayer, IntegerNetwork
from compresskit.codec.sines import ACTIVATION_BITS
from compresskit.errors import GuardError

MAX_WEIGHT_BITS = WEIGHT_LIMIT.bit_length()

MIDDLE = 0.5
"""Added to the output, so that a network starts in the middle of the samples' range, 0 to 1."""


@dataclass(frozen=True, eq=False)
class Siren:
    """Parameters of a SIREN: `depth` hidden layers, then a linear output.

    Attributes:
        weights: (out, in) of each layer, the output last.
        biases: (out,) of each layer.
        omega: factor of every sine's argument.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    omega: float


def init(dims: int, width: int, depth: int, channels: int, omega: float, generator: torch.Generator) -> Siren:
    """Draw a SIREN such that every layer's activations have one distribution (Sitzmann et al. 2020, section 3.2).

    Args:
        dims: coordinates of a point.
        width: of each hidden layer.
        depth: hidden layers.
        channels: samples of a point.
        omega: factor of every sine's argument.
        generator: of the draws, on the CPU.
    """
    fan_ins = [dims, *[width] * depth]
    bounds = [1 / dims, *[math.sqrt(6 / width) / omega] * depth]
    outs = [*[width] * depth, channels]

    def draw(bound: float, *shape: int) -> Tensor:
        return (2 * torch.rand(shape, generator=generator) - 1) * bound

    weights = tuple(draw(bound, out, fan_in) for bound, out, fan_in in zip(bounds, outs, fan_ins, strict=True))
    return Siren(weights, tuple(draw(1 / math.sqrt(fan_in), out) for out, fan_in in zip(outs, fan_ins, strict=True)), omega)


def forward(siren: Siren, x: Tensor, shifts: tuple[Tensor, ...] | None = None) -> Tensor:
    """Evaluate `siren` at points.

    Args:
        siren: the parameters.
        x: (..., N, dims) coordinates in [-1, 1].
        shifts: (P, 1, width) for each hidden layer, added to its bias (thesis, eq. 5.4).

    Returns:
        (..., N, channels); with shifts (P, N, channels).
    """
    return F.linear(activations(siren, x, shifts), siren.weights[-1], siren.biases[-1]) + MIDDLE


def activations(siren: Siren, x: Tensor, shifts: tuple[Tensor, ...] | None = None) -> Tensor:
    """What the last hidden layer makes of points: (..., N, width); the arguments are those of `forward`."""
    for index, parameters in enumerate(zip(siren.weights[:-1], siren.biases[:-1], strict=True)):
        x = F.linear(x, *parameters)
        x = torch.sin(siren.omega * (x if shifts is None else x + shifts[index]))
    return x


def to_integer(siren: Siren, weight_bits: int = 16, output_reach: float = 0.0) -> IntegerNetwork:
    """Round parameters: in each layer to the finest power of two that leaves weights within signed `weight_bits` (8 to 24).

    Args:
        siren: the network.
        weight_bits: see above.
        output_reach: magnitude of the weights that modulations make of those of the output layer; these have MAX_WEIGHT_BITS.

    Raises:
        GuardError: a parameter is not finite, or far too large: training diverged.
    """
    factors = [*[siren.omega / (2 * math.pi)] * (len(siren.weights) - 1), 1.0]
    offsets = [*[0.0] * (len(siren.weights) - 1), MIDDLE]
    bits = [*[weight_bits] * (len(siren.weights) - 1), MAX_WEIGHT_BITS if output_reach else weight_bits]
    reaches = [*[0.0] * (len(siren.weights) - 1), output_reach]
    layers = zip(siren.weights, siren.biases, factors, offsets, bits, reaches, strict=True)
    return IntegerNetwork(tuple(_rounded(_numpy(w) * factor, _numpy(b) * factor + offset, *rest) for w, b, factor, offset, *rest in layers))


def from_integer(network: IntegerNetwork, omega: float) -> Siren:
    """The SIREN that `network` computes, up to rounding, as float32."""
    factors = [*[2 * math.pi / omega] * network.hidden, 1.0]
    offsets = [*[0.0] * network.hidden, MIDDLE]
    weights = [layer.weight * factor / 2**layer.fraction for layer, factor in zip(network.layers, factors, strict=True)]
    biases = [
        layer.bias * factor / 2 ** (layer.fraction + ACTIVATION_BITS) - offset
        for layer, factor, offset in zip(network.layers, factors, offsets, strict=True)
    ]
    return Siren(tuple(torch.from_numpy(w).float() for w in weights), tuple(torch.from_numpy(b).float() for b in biases), omega)


def _rounded(weight: NDArray[np.float64], bias: NDArray[np.float64], bits: int, reach: float) -> IntegerLayer:
    """The layer on the finest grid that holds it, and weights of a magnitude of `reach`; no grid holds what is not finite."""
    for fraction in range(MAX_FRACTION, 0, -1):
        weights, biases = np.rint(weight * 2.0**fraction), np.rint(bias * 2.0 ** (fraction + ACTIVATION_BITS))
        if max(np.abs(weights).max(), reach * 2.0**fraction) < 2 ** (bits - 1) and np.abs(biases).max() < OFFSET_LIMIT:
            return IntegerLayer(weights.astype(np.int64), biases.astype(np.int64), fraction)
    raise GuardError("the network's weights are not finite, or too large: training diverged; lower the learning rate")


def _numpy(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().cpu().numpy().astype(np.float64)
