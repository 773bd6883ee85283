"""Which layers suffer from quantization: what is lost where one is quantized and all others stay in float."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import onnx

from compresskit.data import Dataset
from compresskit.models.isolated import Child
from compresskit.progress import SILENT, Progress
from compresskit.quantization.correction import corrected_biases
from compresskit.quantization.emit import emit_codebooks, emit_static, emit_weights
from compresskit.quantization.layers import Layer
from compresskit.quantization.measure import onnx_accuracy
from compresskit.quantization.plan import Plan
from compresskit.quantization.quantized import Quantized


def sensitivities(
    done: Quantized, data: Dataset, *, threads: int = 1, child: Child | None = None, progress: Progress = SILENT
) -> Mapping[str, float]:
    """By how much accuracy falls (an error rises) on the validation split if only one layer is quantized, by the names of the layers' outputs.

    Raises:
        InputError: ONNX Runtime cannot run the model, or its outputs do not fit the labels.
    """
    choosing = replace(data, test=None)  # what shows which layer needs more bits must not be what the result is measured on

    def merit(model: onnx.ModelProto) -> float:
        return onnx_accuracy(model.SerializeToString(), network.inputs[0], choosing, batch=network.fixed_batch, threads=threads, child=child).merit

    network = done.network
    progress.stage("sensitivity", len(done.layers))
    whole = merit(network.to_model())
    lost = {}
    for layer in done.layers:
        lost[layer.output] = whole - merit(alone(done, layer))
        progress.advance(1)
    return lost


def alone(done: Quantized, layer: Layer) -> onnx.ModelProto:
    """The float network with one layer quantized: its weights, to the nearest, and what it reads."""
    network = done.network
    if layer.weight in done.codebooks:
        return emit_codebooks(network, {layer.weight: done.codebooks[layer.weight]})
    weights = {layer.weight: done.weights[layer.weight]}
    if done.plan is None:
        return emit_weights(network, weights)
    plan = Plan((layer,), (layer.input,), ((layer.input,),), frozenset({layer.output}), {}, ())
    corrected = corrected_biases(network, plan.layers, weights, done.statistics)
    return emit_static(network.edited(network.nodes, corrected), plan, weights, {layer.input: done.activations[layer.input]})
