"""Post-training quantization: weights alone, or with activations calibrated on samples.

ModelGraph ─export─► ONNX ─prepare─► Network ─┬─ no data ─► weights ─────────────────────────────► emit
                                              └─ (equalized) ─► plan ─► observe ─► grids ─► biases ─► rounding ─► emit ─► check_integers
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from compresskit.data import Dataset
from compresskit.errors import InputError
from compresskit.models.graph import ModelGraph
from compresskit.models.isolated import Child, sharing
from compresskit.models.onnx_out import export_onnx
from compresskit.progress import SILENT, Progress
from compresskit.quantization.calibrate import Samples, draw_samples, observe
from compresskit.quantization.config import QuantizeConfig
from compresskit.quantization.equalize import equalized
from compresskit.quantization.feeding import Feeding, output_noise
from compresskit.quantization.integrity import check_integers
from compresskit.quantization.network import Network
from compresskit.quantization.plan import Plan
from compresskit.quantization.prepare import prepare
from compresskit.quantization.quantized import Quantized
from compresskit.quantization.reconstruction import LEARNED_BITS
from compresskit.quantization.saturation import saturates
from compresskit.quantization.static import planned, quantize_static, round_by_learning
from compresskit.quantization.weights import Bits
from compresskit.quantization.weights_only import quantize_by_codebook, quantize_weights

CHECKED = 4
"""Samples whose integers are compared with the reference's."""
TRIED = 32
"""Samples that say whether equalization helps."""


def quantize(
    model: ModelGraph | onnx.ModelProto,
    data: Dataset | None = None,
    config: QuantizeConfig | None = None,
    *,
    source: str = "the model",
    threads: int = 1,
    child: Child | None = None,
    progress: Progress = SILENT,
) -> Quantized:
    """Quantize a model after training. A graph is exported first, so that both forms give the same integers.

    Args:
        model: checked, if it is ONNX from elsewhere: see `compresskit.models.onnx_safety`.
        data: to calibrate activations on; None, or with codebooks: only weights are quantized.
        config: None: the defaults. Its guards are the command's affair.
        source: what to call the model in messages.
        child: where models run; None: in one that ends with this.

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
    samples = draw_samples(data, config.samples, config.seed)
    with sharing(child) as child:
        return _static(network, balanced, plan, config, samples, threads, child, progress)


def _static(
    network: Network, balanced: Network, plan: Plan, config: QuantizeConfig, samples: Samples, threads: int, child: Child, progress: Progress
) -> Quantized:
    """Weights and activations quantized, of `network` or of what equalization made of it, and checked."""
    start, batch = balanced, network.fixed_batch
    if config.equalize == "auto" and balanced is not network:
        progress.stage("equalize")
        start = min((network, balanced), key=lambda one: _trial(one, plan, config, samples, threads, child))
    done = _calibrated(start, plan, config, samples, threads=threads, child=child, progress=progress)
    done = replace(done, equalized=start is not network)
    if learned := [layer for layer in plan.layers if learns(config, done.weights[layer.weight].bits)]:
        done = round_by_learning(done, learned, samples, batch=batch, threads=threads, child=child, seed=config.seed, progress=progress)
    x = samples(0, batch or CHECKED)
    feeds = {network.inputs[0]: np.resize(x, (batch or CHECKED, *x.shape[1:]))}
    return replace(done, integrity=check_integers(done.model, feeds, threads=threads, child=child))


def _calibrated(
    network: Network,
    plan: Plan,
    config: QuantizeConfig,
    samples: Samples,
    *,
    threads: int,
    child: Child,
    count: int | None = None,
    progress: Progress = SILENT,
) -> Quantized:
    """Static quantization, calibrated on `count` of the samples, None for all."""
    count = len(samples) if count is None else min(count, len(samples))
    statistics = observe(network, plan.tensors, samples, count, batch=network.fixed_batch, threads=threads, child=child, progress=progress)
    progress.stage("quantize")
    weights, activations = widths(plan, config)
    return quantize_static(network, plan, statistics, weights=weights, activations=activations, method=config.calibration)


def _trial(network: Network, plan: Plan, config: QuantizeConfig, samples: Samples, threads: int, child: Child) -> float:
    """The noise at the outputs if this form of the network is quantized, from a few samples."""
    done = _calibrated(network, plan, config, samples, threads=threads, child=child, count=TRIED)
    feeding = Feeding(network.inputs[0], samples, min(TRIED, len(samples)), network.fixed_batch)
    return output_noise(network.to_model(), done.model, feeding, threads=threads, child=child)


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
