"""Post-training quantization: weights alone, or with activations calibrated on samples.

ModelGraph ─export─► ONNX ─prepare─► Network ─┬─ no data ─► weights ─────────────────────────────► emit
                                              └─ (equalized) ─► plan ─► observe ─► grids ─► biases ─► rounding ─► emit ─► check_integers
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from compresskit.data import Dataset
from compresskit.errors import InputError
from compresskit.models.graph import ModelGraph
from compresskit.models.onnx_out import export_onnx
from compresskit.progress import SILENT, Progress
from compresskit.quantization.calibrate import Samples, draw_samples, observe
from compresskit.quantization.codebook import Codebook, codebooks
from compresskit.quantization.config import QuantizeConfig
from compresskit.quantization.correction import corrected_biases
from compresskit.quantization.emit import emit_codebooks, emit_static, emit_weights
from compresskit.quantization.equalize import equalized
from compresskit.quantization.feeding import Feeding, output_noise
from compresskit.quantization.grid import Grid, asymmetric
from compresskit.quantization.integrity import Integrity, check_integers
from compresskit.quantization.layers import Layer, find_layers
from compresskit.quantization.network import Network
from compresskit.quantization.plan import Plan, left_alone, make_plan
from compresskit.quantization.prepare import prepare
from compresskit.quantization.ranges import METHODS
from compresskit.quantization.reconstruction import LEARNED_BITS, Rounded, learnable, reconstructed
from compresskit.quantization.saturation import saturates
from compresskit.quantization.statistics import Statistics
from compresskit.quantization.weights import Bits, weight_grids
from compresskit.report import Skipped
from compresskit.wording import listed

CHECKED = 4
"""Samples whose integers are compared with the reference's."""
TRIED = 32
"""Samples that say whether equalization helps."""


@dataclass(frozen=True)
class Quantized:
    """A quantized network.

    Attributes:
        model: as ONNX.
        network: the float model, simplified and perhaps equalized, that it was made from.
        layers: what was quantized.
        weights: grids by the weights' names; none where codebooks take their place.
        activations: grids by tensor; none where only weights were quantized.
        skipped: what was left in float, and why.
        plan, statistics: of static quantization.
        rounded: weights that lie on their grids, not at the nearest integers, and biases that were corrected; by name.
        equalized: whether channels were brought to like ranges across layers.
        codebooks: by the weights' names.
        integrity: how ONNX Runtime's integers compare with the reference's; None where nothing was compared.
    """

    model: onnx.ModelProto
    network: Network
    layers: tuple[Layer, ...]
    weights: Mapping[str, Grid]
    activations: Mapping[str, Grid]
    skipped: tuple[Skipped, ...]
    plan: Plan | None = None
    statistics: Mapping[str, Statistics] = field(default_factory=dict)
    rounded: Mapping[str, np.ndarray] = field(default_factory=dict)
    equalized: bool = False
    codebooks: Mapping[str, Codebook] = field(default_factory=dict)
    integrity: Integrity | None = None


def quantize(
    model: ModelGraph | onnx.ModelProto,
    data: Dataset | None = None,
    config: QuantizeConfig | None = None,
    *,
    source: str = "the model",
    threads: int = 1,
    progress: Progress = SILENT,
) -> Quantized:
    """Quantize a model after training. A graph is exported first, so that both forms give the same integers.

    Args:
        model: checked, if it is ONNX from elsewhere: see `compresskit.models.onnx_safety`.
        data: to calibrate activations on; None, or with codebooks: only weights are quantized.
        config: None: the defaults. Its guards are the command's affair.
        source: what to call the model in messages.

    Raises:
        InputError: the model is quantized already, of half precision, has nothing to quantize, or does not run on the data.
        GuardError: ONNX Runtime computes other integers than the model says.
    """
    config = config or QuantizeConfig()
    network = prepare(export_onnx(model) if isinstance(model, ModelGraph) else model, source)
    balanced = network if config.equalize == "no" else equalized(network)
    if data is None or config.codebook:
        progress.stage("quantize")
        start = balanced if config.equalize == "yes" else network  # nothing to measure on
        done = quantize_by_codebook(start, config.weights, source) if config.codebook else quantize_weights(start, weight_bits(config), source)
        return replace(done, equalized=start is not network)
    plan = planned(network, source)
    if len(network.inputs) != 1:
        raise InputError(f"{source} has {len(network.inputs)} inputs: calibration serves models with one")
    samples, batch = draw_samples(data, config.samples, config.seed), network.fixed_batch
    start = balanced
    if config.equalize == "auto" and balanced is not network:
        progress.stage("equalize")
        start = min((network, balanced), key=lambda one: _trial(one, plan, config, samples, threads))
    done = replace(_calibrated(start, plan, config, samples, threads=threads, progress=progress), equalized=start is not network)
    if learned := [layer for layer in plan.layers if learns(config, done.weights[layer.weight].bits)]:
        done = round_by_learning(done, learned, samples, batch=batch, threads=threads, seed=config.seed, progress=progress)
    x = samples(0, batch or CHECKED)
    feeds = {network.inputs[0]: np.resize(x, (batch or CHECKED, *x.shape[1:]))}
    return replace(done, integrity=check_integers(done.model, feeds, threads=threads))


def _calibrated(
    network: Network, plan: Plan, config: QuantizeConfig, samples: Samples, *, threads: int, count: int | None = None, progress: Progress = SILENT
) -> Quantized:
    """Static quantization, calibrated on `count` of the samples, None for all."""
    count = len(samples) if count is None else min(count, len(samples))
    statistics = observe(network, plan.tensors, samples, count, batch=network.fixed_batch, threads=threads, progress=progress)
    progress.stage("quantize")
    weights, activations = widths(plan, config)
    return quantize_static(network, plan, statistics, weights=weights, activations=activations, method=config.calibration)


def _trial(network: Network, plan: Plan, config: QuantizeConfig, samples: Samples, threads: int) -> float:
    """The noise at the outputs if this form of the network is quantized, from a few samples."""
    done = _calibrated(network, plan, config, samples, threads=threads, count=TRIED)
    feeding = Feeding(network.inputs[0], samples, min(TRIED, len(samples)), network.fixed_batch)
    return output_noise(network.to_model(), done.model, feeding, threads=threads)


def weight_bits(config: QuantizeConfig) -> int:
    """The bits of a weight: as asked, but 7 in place of 8 where 8 would overflow."""
    if config.weights != 8 or config.reduce_range is False:
        return config.weights
    return 7 if config.reduce_range or saturates() else 8


def widths(plan: Plan, config: QuantizeConfig) -> tuple[Bits, Bits]:
    """The bits of weights and of activations: of all, or of each by name where the first and the last layer have bits of their own."""
    inner = weight_bits(config)
    if config.edges is None:
        return inner, config.activations
    ends, outer = (plan.layers[0], plan.layers[-1]), weight_bits(replace(config, weights=config.edges))
    weights = {layer.weight: inner for layer in plan.layers} | {layer.weight: outer for layer in ends}
    return weights, dict.fromkeys(plan.tensors, config.activations) | {layer.input: config.edges for layer in ends}


def learns(config: QuantizeConfig, bits: int) -> bool:
    """Whether the rounding of weights of `bits` is learned."""
    return bits <= LEARNED_BITS if config.rounding == "auto" else config.rounding == "learned"


def quantize_weights(network: Network, bits: Bits, source: str) -> Quantized:
    """Quantize the stored weights; everything is computed in float.

    Args:
        bits: of all weights, or of each by its name.

    Raises:
        InputError: there are none.
    """
    layers = find_layers(network)
    _refuse_empty(network, layers, source)
    grids = weight_grids(network, layers, bits)
    return Quantized(emit_weights(network, grids), network, layers, grids, {}, tuple(left_alone(network)))


def quantize_by_codebook(network: Network, bits: int, source: str) -> Quantized:
    """Store the weights as indices of `bits` into codebooks; everything is computed in float.

    Raises:
        InputError: there are none.
    """
    layers = find_layers(network)
    _refuse_empty(network, layers, source)
    books = codebooks(network, layers, bits)
    return Quantized(emit_codebooks(network, books), network, layers, {}, {}, tuple(left_alone(network)), codebooks=books)


def planned(network: Network, source: str) -> Plan:
    """What static quantization would make integers of.

    Raises:
        InputError: nothing.
    """
    plan = make_plan(network)
    _refuse_empty(network, plan.layers, source)
    return plan


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
    rounded = reconstructed(network, chosen, done.weights, done.activations, emit, feeds, threads=threads, seed=seed, progress=progress)
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


def _refuse_empty(network: Network, layers: tuple[Layer, ...], source: str) -> None:
    if not layers:
        kinds = listed(sorted({node.op_type for node in network.nodes})) or "none at all"
        raise InputError(f"{source}: there is nothing to quantize: no Conv, Gemm or MatMul with stored float32 weights (its operators: {kinds})")
