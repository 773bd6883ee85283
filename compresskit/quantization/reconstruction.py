"""Learned rounding of a network, layer by layer: each is fitted to what it put out in float, on inputs as the layers before it now make them.

             float network ────► y ───┐
samples ─►                            ├─► Moments ─► learn_rounding ─► weights and bias, for the layers behind to see
             quantized so far ─► z ───┘
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from compresskit.models.isolated import Child, IsolatedSession, sharing
from compresskit.progress import SILENT, Progress
from compresskit.quantization.feeding import Feeding
from compresskit.quantization.grid import Grid
from compresskit.quantization.layers import Layer
from compresskit.quantization.moments import Moments
from compresskit.quantization.network import Network, part_up_to
from compresskit.quantization.patches import as_matrices, as_stored, draw_places, input_rows, output_rows
from compresskit.quantization.rounding import learn_rounding
from compresskit.quantization.storage import activation_container

LEARNED_BITS = 4
"""For weights of more bits rounding is learned on demand only: they lose little by rounding to the nearest."""
MOST_INPUTS = 4608
"""Of an output, a 3x3 kernel on 512 channels: its moments take 0.7 GB. Layers of more are rounded to the nearest."""


@dataclass
class Rounded:
    """What has been rounded so far, by name.

    Attributes:
        constants: weights that lie on their grids, and biases.
        grids: of those weights.
    """

    constants: dict[str, np.ndarray] = field(default_factory=dict)
    grids: dict[str, Grid] = field(default_factory=dict)


Emit = Callable[[Rounded], onnx.ModelProto]


def learnable(network: Network, layers: Collection[Layer]) -> tuple[Layer, ...]:
    """The layers whose weights are theirs alone, and not too many an output."""

    def few(layer: Layer) -> bool:
        return as_matrices(layer, network.constants[layer.weight]).shape[2] <= MOST_INPUTS

    return tuple(layer for layer in layers if network.uses[layer.weight] == 1 and few(layer))


def reconstructed(
    network: Network,
    layers: Collection[Layer],
    weights: Mapping[str, Grid],
    activations: Mapping[str, Grid],
    emit: Emit,
    feeding: Feeding,
    *,
    threads: int = 1,
    child: Child | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Rounded:
    """Weights rounded for the least change of each layer's outputs, and the biases that go with them.

    Args:
        network: in float.
        layers: to round, in the graph's order, as `learnable` chooses them.
        weights: grids by name, which cover all weights.
        activations: grids by name.
        emit: the quantized network, given what has been rounded so far.
        seed: of the output positions that are looked at.

    Raises:
        InputError: ONNX Runtime cannot run the model.
    """
    rounded = Rounded()
    float_model = network.to_model()
    with sharing(child) as child, ExitStack() as stack:
        first, second = (stack.enter_context(IsolatedSession(float_model.SerializeToString(), threads=threads, child=child)) for _ in range(2))
        progress.stage("round", len(layers))
        for layer in layers:
            grid = activations[layer.input]
            kind = activation_container(grid.bits).kind
            first.load(part_up_to(float_model, layer.output).SerializeToString())
            second.load(part_up_to(emit(rounded), f"{layer.input}_quantized", kind).SerializeToString())
            pairs = ((grid.dequantize(read[0].astype(np.int32)), made[0]) for made, read in feeding.answers(first, second))
            free_bias = layer.bias if layer.bias is not None and network.uses[layer.bias] == 1 else None
            constants, rounded.grids[layer.weight] = fitted(
                layer, network.constants[layer.weight], weights[layer.weight], free_bias, pairs, np.random.default_rng(seed)
            )
            rounded.constants.update(constants)
            progress.advance(1)
    return rounded


def fitted(
    layer: Layer,
    weight: np.ndarray,
    grid: Grid,
    bias: str | None,
    pairs: Iterator[tuple[np.ndarray, np.ndarray]],
    rng: np.random.Generator,
) -> tuple[dict[str, np.ndarray], Grid]:
    """One layer's weights, and its bias where that has a name, for `pairs` of what it reads now and what it put out in float; and its grid."""
    matrices = as_matrices(layer, weight)
    moments = Moments(*matrices.shape)
    for inputs, outputs in pairs:
        places = draw_places(layer, outputs, rng)
        moments.update(input_rows(layer, weight, inputs, places, len(matrices)), output_rows(layer, outputs, places, len(matrices)))
    target = moments.layer_error(free_bias=bias is not None)
    integers, step = learn_rounding(matrices, grid.scale.reshape(matrices.shape[:2]), grid.low, grid.high, target)
    found = integers * step[..., None]
    fit = {layer.weight: as_stored(layer, found, weight.shape).astype(np.float32)}
    if bias is not None:
        fit[bias] = target.bias(found).ravel().astype(np.float32)
    return fit, replace(grid, scale=step.reshape(grid.scale.shape))
