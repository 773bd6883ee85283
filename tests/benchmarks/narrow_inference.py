"""Integer inference as compresskit.codec.exact does it, at any number of bits: what fewer of them would cost.

Written for any precision rather than for speed; at the decoder's own it gives the decoder's levels, which `codec_ablation.py` checks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compresskit.codec.exact import ACTIVATION_BITS, IntegerNetwork, Integers
from compresskit.codec.sines import SINE_BITS, sine

WEIGHT_BITS = 16
"""Of the weights of networks that ship."""

_FLOAT32_INTEGERS = 2**24
_ROWS = 2**15  # evaluated at a time


@dataclass(frozen=True)
class Precision:
    """Signed bits of a weight; bits after the binary point of coordinates and sines, and bits of a phase."""

    weights: int
    activations: int


@dataclass(frozen=True, eq=False)
class NarrowNetwork:
    """A network and its shifts at some precision.

    Attributes:
        weights: (in, out) of each layer.
        offsets: (P, out) of each layer: bias, shift and one half, in hidden layers less whole turns.
        fractions: of each layer.
        table: the sine of every phase.
        activations: bits, see `Precision`.
    """

    weights: list[Tensor]
    offsets: list[Tensor]
    fractions: list[int]
    table: Tensor
    activations: int

    @property
    def float32(self) -> bool:
        """Whether float32 can carry it: no sum leaves the integers that are exact there."""
        reach = [self.offsets[index].abs().max() + weight.abs().sum(dim=0).max() * 2**self.activations for index, weight in enumerate(self.weights)]
        return max(float(most) for most in reach) < _FLOAT32_INTEGERS

    def carried_by(self, dtype: torch.dtype) -> NarrowNetwork:
        """The same integers as floats of `dtype`."""
        weights, offsets = ([tensor.to(dtype) for tensor in part] for part in (self.weights, self.offsets))
        return NarrowNetwork(weights, offsets, self.fractions, self.table.to(dtype), self.activations)


def narrowed(network: IntegerNetwork, shifts: Integers, precision: Precision) -> NarrowNetwork:
    """Round a network with weights of WEIGHT_BITS and `shifts` (P, hidden layers, width) to `precision`."""
    weight_drop = WEIGHT_BITS - precision.weights
    drop = weight_drop + ACTIVATION_BITS - precision.activations
    weights, offsets, fractions = [], [], []
    for index, layer in enumerate(network.layers):
        fraction = layer.fraction - weight_drop
        hidden = index < network.hidden
        offset = rounded(layer.bias + (shifts[:, index] if hidden else 0 * shifts[:, 0, : network.channels]), drop)
        offset = (offset + (1 << fraction - 1)) % (1 << fraction + precision.activations) if hidden else offset
        weights.append(torch.from_numpy(rounded(layer.weight, weight_drop).T.astype(np.float64)))
        offsets.append(torch.from_numpy(offset.astype(np.float64)))
        fractions.append(fraction)
    return NarrowNetwork(weights, offsets, fractions, torch.from_numpy(_sines(precision.activations)), precision.activations)


def evaluate_narrow(network: NarrowNetwork, coordinates: Integers, levels: int) -> NDArray[np.int64]:
    """Levels (P, N, channels) at `coordinates` (N, dims), in the carrier that the network is in."""
    dtype = network.table.dtype
    integer = torch.int32 if dtype == torch.float32 else torch.int64
    x = torch.from_numpy(rounded(coordinates, ACTIVATION_BITS - network.activations).astype(np.float64)).to(dtype)
    patches = network.offsets[0].split(max(1, _ROWS // len(x)))
    begin, parts = 0, []
    for part in patches:
        chosen = slice(begin, begin + len(part))
        begin += len(part)
        sums = (x @ network.weights[0]).repeat(len(part), 1, 1)
        for index, fraction in enumerate(network.fractions[:-1]):
            phases = sums.add_(network.offsets[index][chosen, None]).to(integer)
            phases.bitwise_right_shift_(fraction).bitwise_and_(2**network.activations - 1)
            sums = network.table.index_select(0, phases.view(-1)).view(sums.shape) @ network.weights[index + 1]
        parts.append(_to_levels(sums.add_(network.offsets[-1][chosen, None]), network.fractions[-1] + network.activations, levels))
    return torch.cat(parts).numpy()


def rounded(values: Integers, drop: int) -> Integers:
    """`values` without their `drop` lowest bits, rounded half up."""
    return (values + (1 << drop >> 1)) >> drop


def _to_levels(outputs: Tensor, fraction: int, levels: int) -> Tensor:
    units = outputs.clamp_(0, 1 << fraction).to(torch.int64)
    return units.mul_(levels - 1).add_(1 << fraction - 1).bitwise_right_shift_(fraction)


def _sines(bits: int) -> NDArray[np.float64]:
    drop = SINE_BITS - bits
    return np.array([sine(phase, bits) + (1 << drop - 1) >> drop for phase in range(2**bits)], np.float64)
