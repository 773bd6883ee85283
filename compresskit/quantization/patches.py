"""The rows that a layer's weights are multiplied with, and the outputs that come of each: patches of convolutions, vectors of products.

A layer is (G, O, K) weights on G groups of inputs: O outputs and K inputs a group, one group unless a convolution has more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from compresskit.quantization.layers import Layer
from compresskit.quantization.network import attribute
from compresskit.quantization.simulate import pads

MOST_PLACES = 64
"""Of a sample's output positions; neighbours see nearly the same."""


def as_matrices(layer: Layer, weight: np.ndarray) -> np.ndarray:
    """(G, O, K) of a layer's stored weights, a view where possible."""
    groups = attribute(layer.node, "group", 1) if layer.node.op_type == "Conv" else 1
    rows = weight.T if layer.axis == 1 else weight
    return rows.reshape(groups, len(rows) // groups, -1)


def as_stored(layer: Layer, matrices: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """What `as_matrices` made of weights of `shape`, as it was before."""
    if layer.axis == 1:
        return np.ascontiguousarray(matrices.reshape(shape[::-1]).T)
    return matrices.reshape(shape)


def draw_places(layer: Layer, outputs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which of a sample's output positions to look at, numbered in their order in memory."""
    sizes = outputs.shape[2:] if layer.node.op_type == "Conv" else outputs.shape[1:-1]
    return np.sort(rng.permutation(math.prod(sizes))[:MOST_PLACES])


def output_rows(layer: Layer, outputs: np.ndarray, places: np.ndarray, groups: int) -> np.ndarray:
    """(G, rows, O) of what a layer puts out at `places`."""
    if layer.node.op_type == "Conv":
        found = outputs.reshape(*outputs.shape[:2], -1)[:, :, places].transpose(0, 2, 1)
    else:
        found = outputs.reshape(len(outputs), -1, outputs.shape[-1])[:, places]
    return found.reshape(found.shape[0] * found.shape[1], groups, -1).transpose(1, 0, 2)


def input_rows(layer: Layer, weight: np.ndarray, inputs: np.ndarray, places: np.ndarray, groups: int) -> np.ndarray:
    """(G, rows, K) of what a layer reads for its outputs at `places`."""
    if layer.node.op_type != "Conv":
        return inputs.reshape(len(inputs), -1, inputs.shape[-1])[:, places].reshape(1, -1, inputs.shape[-1])
    node, rank = layer.node, weight.ndim - 2
    strides, dilations = attribute(node, "strides", [1] * rank), attribute(node, "dilations", [1] * rank)
    margins = pads(node, inputs.shape[2:], weight.shape[2:], strides, dilations)
    spans = [(taps - 1) * dilation + 1 for taps, dilation in zip(weight.shape[2:], dilations, strict=True)]
    windows = sliding_window_view(np.pad(inputs, [(0, 0), (0, 0), *margins]), spans, axis=tuple(range(2, 2 + rank)))
    sizes = [-(-size // stride) for size, stride in zip(windows.shape[2 : 2 + rank], strides, strict=True)]
    corners = [at * stride for at, stride in zip(np.unravel_index(places, sizes), strides, strict=True)]
    index: tuple[Any, ...] = (slice(None), slice(None), *corners, *(slice(None, None, dilation) for dilation in dilations))
    found = np.moveaxis(windows[index], 1, 2)  # (samples, places, channels, *taps)
    return found.reshape(found.shape[0] * found.shape[1], groups, -1).transpose(1, 0, 2)
