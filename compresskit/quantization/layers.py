"""Layers: the nodes with stored float weights that can run in integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from compresskit.errors import InputError
from compresskit.quantization.network import Network, attribute, is_plain, title
from compresskit.wording import listed

KINDS = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class Layer:
    """A node with stored weights that can run in integers.

    Attributes:
        weight: name of the stored weights.
        axis: of the weights, along which the output channels run.
        bias: name of the stored (C,) bias, None where there is none.
    """

    node: NodeProto
    weight: str
    axis: int
    bias: str | None

    @property
    def name(self) -> str:
        return title(self.node)

    @property
    def input(self) -> str:
        return self.node.input[0]

    @property
    def output(self) -> str:
        return self.node.output[0]


def find_layers(network: Network) -> tuple[Layer, ...]:
    """Every layer, in the graph's order."""
    return tuple(layer for node in network.nodes if (layer := _layer(network, node)) is not None)


def require_layers(network: Network, source: str) -> tuple[Layer, ...]:
    """Every layer, in the graph's order.

    Raises:
        InputError: there is none.
    """
    layers = find_layers(network)
    if not layers:
        kinds = listed(sorted({node.op_type for node in network.nodes})) or "none at all"
        raise InputError(f"{source}: there is nothing to quantize: no Conv, Gemm or MatMul with stored float32 weights (its operators: {kinds})")
    return layers


def _layer(network: Network, node: NodeProto) -> Layer | None:
    if node.op_type not in KINDS or not is_plain(node) or node.input[0] in network.constants:
        return None
    weight = network.constants.get(node.input[1])
    if weight is None or weight.dtype != np.float32 or weight.size == 0 or not np.isfinite(weight).all():
        return None
    if weight.ndim < 3 if node.op_type == "Conv" else weight.ndim != 2:
        return None
    if node.op_type == "MatMul":
        return Layer(node, node.input[1], 1, None)
    axis = 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else 1
    bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
    if bias is not None and (bias not in network.constants or network.constants[bias].shape != weight.shape[axis : axis + 1]):
        return None
    factors = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0), attribute(node, "transA", 0)
    return Layer(node, node.input[1], axis, bias) if factors == (1.0, 1.0, 0) else None
