"""Post-training quantization of a network: weights alone, or with activations calibrated on samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from compresskit.errors import InputError
from compresskit.quantization.emit import emit_static, emit_weights
from compresskit.quantization.grid import Grid, asymmetric
from compresskit.quantization.layers import Layer, find_layers
from compresskit.quantization.network import Network
from compresskit.quantization.plan import Plan, left_alone, make_plan
from compresskit.quantization.ranges import METHODS
from compresskit.quantization.statistics import Statistics
from compresskit.quantization.weights import weight_grids
from compresskit.report import Skipped
from compresskit.wording import listed


@dataclass(frozen=True)
class Quantized:
    """A quantized network.

    Attributes:
        model: as ONNX.
        layers: what was quantized.
        weights: grids by the weights' names.
        activations: grids by tensor; none where only weights were quantized.
        skipped: what was left in float, and why.
    """

    model: onnx.ModelProto
    layers: tuple[Layer, ...]
    weights: Mapping[str, Grid]
    activations: Mapping[str, Grid]
    skipped: tuple[Skipped, ...]


def quantize_weights(network: Network, bits: int, source: str) -> Quantized:
    """Quantize the stored weights; everything is computed in float.

    Raises:
        InputError: there are none.
    """
    layers = find_layers(network)
    _refuse_empty(network, layers, source)
    grids = weight_grids(network, layers, bits)
    return Quantized(emit_weights(network, grids), layers, grids, {}, tuple(left_alone(network)))


def planned(network: Network, source: str) -> Plan:
    """What static quantization would make integers of.

    Raises:
        InputError: nothing.
    """
    plan = make_plan(network)
    _refuse_empty(network, plan.layers, source)
    return plan


def quantize_static(network: Network, plan: Plan, statistics: Mapping[str, Statistics], *, weights: int, activations: int, method: str) -> Quantized:
    """Quantize weights (bits `weights`, symmetric by channel) and activations (asymmetric, by tensor).

    Args:
        statistics: of the plan's tensors.
        method: of calibration, as registered.
    """
    grids = activation_grids(plan, statistics, activations, method)
    kernels = weight_grids(network, plan.layers, weights, grids)
    return Quantized(emit_static(network, plan, kernels, grids), plan.layers, kernels, grids, plan.skipped)


def activation_grids(plan: Plan, statistics: Mapping[str, Statistics], bits: int, method: str) -> dict[str, Grid]:
    """A grid for every tensor; those of one set get the same, over the union of their ranges."""
    choose = METHODS[method]
    grids = {}
    for members in plan.sets:
        ranges = [choose(statistics[name], bits) for name in members]
        grid = asymmetric(min(low for low, _ in ranges), max(high for _, high in ranges), bits)
        grids.update(dict.fromkeys(members, grid))
    return grids


def _refuse_empty(network: Network, layers: tuple[Layer, ...], source: str) -> None:
    if not layers:
        kinds = listed(sorted({node.op_type for node in network.nodes})) or "none at all"
        raise InputError(f"{source}: there is nothing to quantize: no Conv, Gemm or MatMul with stored float32 weights (its operators: {kinds})")
