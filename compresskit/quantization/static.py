"""Static quantization: weights and activations, from what was seen of these on samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx

from compresskit.models.isolated import Child
from compresskit.progress import SILENT, Progress
from compresskit.quantization.calibrate import Samples
from compresskit.quantization.correction import corrected_biases
from compresskit.quantization.emit import emit_static
from compresskit.quantization.feeding import Feeding
from compresskit.quantization.grid import Grid, asymmetric
from compresskit.quantization.layers import Layer, require_layers
from compresskit.quantization.network import Network
from compresskit.quantization.plan import Plan, make_plan
from compresskit.quantization.quantized import Quantized
from compresskit.quantization.ranges import METHODS
from compresskit.quantization.reconstruction import Rounded, learnable, reconstructed
from compresskit.quantization.statistics import Statistics
from compresskit.quantization.weights import Bits, weight_grids


def planned(network: Network, source: str) -> Plan:
    """What static quantization would make integers of.

    Raises:
        InputError: nothing.
    """
    require_layers(network, source)
    return make_plan(network)


def quantize_static(
    network: Network, plan: Plan, statistics: Mapping[str, Statistics], *, weights: Bits, activations: Bits, method: str
) -> Quantized:
    """Quantize weights (symmetric by channel) and activations (asymmetric, by tensor); correct biases.

    Args:
        statistics: of the plan's tensors.
        weights: bits of all weights, or of each by its name.
        activations: bits of all activations, or of each by its name; a set has the most that one of it has.
        method: of calibration, as registered.
    """
    grids = activation_grids(plan, statistics, activations, method)
    kernels = weight_grids(network, plan.layers, weights, grids)
    corrected = corrected_biases(network, plan.layers, kernels, statistics)
    model = emit_static(network.edited(network.nodes, corrected), plan, kernels, grids)
    return Quantized(model, network, plan.layers, kernels, grids, plan.skipped, plan, statistics, corrected)


def round_by_learning(
    done: Quantized,
    layers: Sequence[Layer],
    samples: Samples,
    *,
    batch: int | None = None,
    threads: int = 1,
    child: Child | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Quantized:
    """Static quantization with the rounding of the weights of `layers` learned, where it can be.

    Raises:
        InputError: ONNX Runtime cannot run the model.
    """
    plan, network = done.plan, done.network
    assert plan is not None, "what is rounded is chosen by what static quantization makes of the inputs"

    def emit(rounded: Rounded) -> onnx.ModelProto:
        changed = network.edited(network.nodes, {**done.rounded, **rounded.constants})
        return emit_static(changed, plan, {**done.weights, **rounded.grids}, done.activations)

    chosen = learnable(network, layers)
    feeds = Feeding(network.inputs[0], samples, len(samples), batch)
    rounded = reconstructed(network, chosen, done.weights, done.activations, emit, feeds, threads=threads, child=child, seed=seed, progress=progress)
    weights, constants = {**done.weights, **rounded.grids}, {**done.rounded, **rounded.constants}
    return replace(done, model=emit(rounded), weights=weights, rounded=constants)


def activation_grids(plan: Plan, statistics: Mapping[str, Statistics], bits: Bits, method: str) -> dict[str, Grid]:
    """A grid for every tensor; those of one set get the same, over the union of their ranges."""
    choose = METHODS[method]
    grids = {}
    for members in plan.sets:
        width = bits if isinstance(bits, int) else max(bits[name] for name in members)
        ranges = [choose(statistics[name], width) for name in members]
        grid = asymmetric(min(low for low, _ in ranges), max(high for _, high in ranges), width)
        grids.update(dict.fromkeys(members, grid))
    return grids
