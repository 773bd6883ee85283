"""Cross-layer equalization: channels of like range, at no cost and with no data (Nagel et al. 2019, section 4.1).

Where what lies between two layers commutes with positive factors, a channel may be divided by s in the first and multiplied in the second:

    w2 relu(w1 x + b1) = (w2 s) relu((w1 / s) x + b1 / s)            s_i = sqrt(r1_i / r2_i), r the largest weights (equation 11)

Factors are powers of two: they change exponents alone, so the float network puts out the same bits as before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from compresskit.quantization.layers import Layer, find_layers
from compresskit.quantization.network import Network, attribute, is_plain
from compresskit.quantization.patches import as_matrices, as_stored

_ROUNDS = 20
_LARGEST = 2.0**20
_POINTWISE = ("Relu", "LeakyRelu")
_BY_CHANNEL = (*_POINTWISE, "MaxPool", "AveragePool", "GlobalAveragePool", "Flatten")
"""Operators for which f(s x) = s f(x) where s > 0, a factor each channel; channels are axis 1, as convolutions make them."""


@dataclass(frozen=True)
class Pair:
    """Two layers, the second of which alone reads what the first makes of its channels."""

    first: Layer
    second: Layer


def equalized(network: Network) -> Network:
    """The same function with weights whose channels are of like range, where layers follow each other; the same network where none do."""
    pairs = find_pairs(network)
    constants: dict[str, np.ndarray] = {}
    for _ in range(_ROUNDS if pairs else 0):
        still = True
        for pair in pairs:
            changed = _balanced(network.edited(network.nodes, constants), pair)
            constants.update(changed)
            still = still and not changed
        if still:
            break
    return network.edited(network.nodes, constants) if constants else network


def find_pairs(network: Network) -> list[Pair]:
    """Every pair of layers whose weights and biases are theirs alone."""
    layers = {layer.output: layer for layer in find_layers(network)}
    uses = network.uses
    own = {output: layer for output, layer in layers.items() if uses[layer.weight] == 1 and (layer.bias is None or uses[layer.bias] == 1)}
    readers = {layer.input: layer for layer in own.values()}
    found = []
    for first in own.values():
        *_, end = _channels(network, first.output, _BY_CHANNEL if first.node.op_type == "Conv" else _POINTWISE)
        if end in readers and network.uses[end] == 1 and _fit(network, first, readers[end]):
            found.append(Pair(first, readers[end]))
    return found


def _channels(network: Network, name: str, passing: tuple[str, ...]) -> Iterator[str]:
    """A tensor, and what operators that let factors pass make of it alone, one after the other."""
    yield name
    while network.uses[name] == 1 and name in network.readers:
        (node,) = network.readers[name]
        if node.op_type not in passing or not is_plain(node) or (node.op_type == "Flatten" and attribute(node, "axis", 1) != 1):
            return
        name = node.output[0]
        yield name


def _fit(network: Network, first: Layer, second: Layer) -> bool:
    """Whether each channel that `first` makes is one, or neighbours in a row, that `second` reads."""
    made = as_matrices(first, network.constants[first.weight])
    read = as_matrices(second, network.constants[second.weight])
    channels = made.shape[0] * made.shape[1]
    if second.node.op_type == "Conv":
        return channels == read.shape[0] * network.constants[second.weight].shape[1]
    return read.shape[2] % channels == 0


def _balanced(network: Network, pair: Pair) -> dict[str, np.ndarray]:
    """What changes in the weights of a pair; nothing where its channels are balanced."""
    weights = [network.constants[layer.weight] for layer in (pair.first, pair.second)]
    made, read = (as_matrices(layer, weight) for layer, weight in zip((pair.first, pair.second), weights, strict=True))
    channels = made.shape[0] * made.shape[1]
    by_channel = read.reshape(len(read), read.shape[1], channels // len(read), -1)
    ranges = np.abs(made).max(axis=2).ravel().astype(np.float64), np.abs(by_channel).max(axis=(1, 3)).ravel().astype(np.float64)
    alive = (ranges[0] > 0) & (ranges[1] > 0)
    ratio = np.where(alive, ranges[0], 1.0) / np.where(alive, ranges[1], 1.0)
    factors = np.clip(2.0 ** np.rint(np.log2(ratio) / 2), 1 / _LARGEST, _LARGEST).astype(np.float32)
    if (factors == 1).all():
        return {}
    first = made / factors.reshape(*made.shape[:2], 1)
    second = by_channel * factors.reshape(len(read), 1, -1, 1)
    changed = {
        pair.first.weight: as_stored(pair.first, first, weights[0].shape),
        pair.second.weight: as_stored(pair.second, second, weights[1].shape),
    }
    return changed if pair.first.bias is None else changed | {pair.first.bias: network.constants[pair.first.bias] / factors}
