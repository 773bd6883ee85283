"""Codebooks: weights as indices into a short list of numbers that k-means chose, a list for each layer and a factor for each output channel.

    w = factor * centers[index]          2^bits centers, indices packed in 2, 4 or 8 bits          (Han et al. 2016, "Deep Compression", section 3)

The centers lie where the weights are, which no grid does. It is storage: a runtime turns indices into floats when it loads the model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from compresskit.quantization.layers import Layer
from compresskit.quantization.network import Network

_ROUNDS = 300
_BINS = 512


@dataclass(frozen=True)
class Codebook:
    """Numbers that weights are rounded to.

    Attributes:
        bits: of an index.
        centers: (at most 2^bits,) float32, ascending, for weights over the largest of their channel.
        scale: (C,) float32: the largest of each channel.
        axis: of the weights, along which `scale` runs.
    """

    bits: int
    centers: np.ndarray
    scale: np.ndarray
    axis: int

    def quantize(self, weight: np.ndarray) -> np.ndarray:
        """The indices (int32) of the nearest centers."""
        return _nearest(self.centers, weight / self.spread(weight.ndim)).astype(np.int32)

    def dequantize(self, indices: np.ndarray) -> np.ndarray:
        """The float32 weights that indices stand for."""
        return self.centers[indices] * self.spread(indices.ndim)

    def round_trip(self, weight: np.ndarray) -> np.ndarray:
        """`weight` as it is after quantization."""
        return self.dequantize(self.quantize(weight))

    def spread(self, rank: int) -> np.ndarray:
        """`scale` such that it multiplies weights of `rank` dimensions."""
        shape = [1] * rank
        shape[self.axis] = -1
        return self.scale.reshape(shape)


def codebooks(network: Network, layers: Iterable[Layer], bits: int) -> dict[str, Codebook]:
    """A codebook for every stored weight, by its name."""
    return {layer.weight: codebook(network.constants[layer.weight], bits, layer.axis) for layer in layers}


def codebook(weight: np.ndarray, bits: int, axis: int) -> Codebook:
    """The codebook of one layer. Weights that are exactly 0 stay it."""
    largest = np.abs(weight).max(axis=tuple(a for a in range(weight.ndim) if a != axis))
    scale = np.where(largest > 0, largest, 1).astype(np.float32)
    plain = Codebook(bits, np.zeros(1, np.float32), scale, axis)
    values = np.sort((weight / plain.spread(weight.ndim)).ravel().astype(np.float64))
    centers = k_means(values, 2**bits)
    if (values == 0).any():
        centers[np.abs(centers).argmin()] = 0
    return Codebook(bits, centers.astype(np.float32), scale, axis)


def k_means(values: np.ndarray, count: int) -> np.ndarray:
    """At most `count` centers, ascending, each the mean of the ascending `values` that are nearest to it (Lloyd's algorithm).

    It starts as dense as the cube root of the values' density, which is best for many centers (Panter and Dite 1951).
    """
    sums = np.concatenate([[0.0], np.cumsum(values)])
    counts, edges = np.histogram(values, _BINS)
    shares = np.cumsum(np.cbrt(counts))
    centers = np.unique(np.interp((np.arange(count) + 0.5) / count * shares[-1], shares, edges[1:]))
    for _ in range(_ROUNDS):
        ends = np.concatenate([[0], np.searchsorted(values, _borders(centers)), [len(values)]])
        sizes = np.diff(ends)
        means = np.where(sizes > 0, np.diff(sums[ends]) / np.maximum(sizes, 1), centers)
        if np.array_equal(means, centers):
            break
        centers = means
    return centers


def _nearest(centers: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.searchsorted(_borders(centers), values)


def _borders(centers: np.ndarray) -> np.ndarray:
    return (centers[1:] + centers[:-1]) / 2
