"""What widths cost, layer by layer: bytes as stored, or bit operations. A fraction counts against float32."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from torch import Tensor

from compresskit.errors import InputError
from compresskit.pruning.surrogate.norms import Norm
from compresskit.quantization.config import Quantity
from compresskit.quantization.layers import Layer
from compresskit.quantization.network import Network
from compresskit.quantization.storage import weight_container

WIDTHS = (2, 4, 8)
FLOAT_BITS = 32


@dataclass(frozen=True)
class WidthCost:
    """A cost as a sum over stored weights.

    Attributes:
        names: of the weights.
        table: (weights, 3) float64, the cost of each at each of `WIDTHS`.
        whole: the cost of all in float32.
    """

    names: tuple[str, ...]
    table: np.ndarray
    whole: float

    @property
    def steps(self) -> np.ndarray:
        """(weights, 2) what a wider width adds: 4 bits to 2, 8 bits to 4."""
        return np.diff(self.table, axis=1)

    @property
    def floor(self) -> float:
        """The least fraction: everything of 2 bits."""
        return float(self.table[:, 0].sum()) / self.whole

    @property
    def ceiling(self) -> float:
        """The largest fraction: everything of 8 bits."""
        return float(self.table[:, -1].sum()) / self.whole

    def of(self, widths: Mapping[str, int]) -> float:
        """The fraction that widths by name come to."""
        return sum(float(self.table[row, WIDTHS.index(widths[name])]) for row, name in enumerate(self.names)) / self.whole

    def relaxed(self, mask: Tensor, norm: Norm) -> Tensor:
        """The surrogate of gates (weights, 2), a differentiable fraction: the bits that stay as a nested product of the gates.

        The gates are scaled such that they add up to the number that `norm` says are open (L1/L2 surrogates, equation 4).
        """
        count = norm(mask.sum(), mask.square().sum(), mask.new_tensor(float(mask.numel())))
        return self._nested(mask * count / mask.sum().clamp_min(torch.finfo(mask.dtype).tiny))

    def standing(self, mask: Tensor) -> Tensor:
        """The fraction where every gate that is not 0 is open."""
        return self._nested((mask > 0).to(mask))

    def _nested(self, gates: Tensor) -> Tensor:
        steps = torch.from_numpy(self.steps).to(gates)
        kept = steps[:, 0] * gates[:, 0] + steps[:, 1] * gates[:, 0] * gates[:, 1]
        return (float(self.table[:, 0].sum()) + kept.sum()) / self.whole


def width_cost(network: Network, layers: Iterable[Layer], quantity: Quantity, activations: int) -> WidthCost:
    """The cost of the weights of `layers`, each counted once.

    Args:
        quantity: "size" in bytes as stored, scales and zero points included; "bit-ops": multiply-accumulates of one sample x bits of a weight x
            bits of an activation.
        activations: bits of an activation.

    Raises:
        InputError: the output of a layer has no known shape, so that its operations cannot be counted.
    """
    counted: dict[str, np.ndarray] = {}
    whole = 0.0
    shapes = output_shapes(network) if quantity == "bit-ops" else {}
    for layer in layers:
        weight = network.constants[layer.weight]
        if quantity == "size":
            if layer.weight not in counted:
                counted[layer.weight] = np.array([stored(weight.size, weight.shape[layer.axis], bits) for bits in WIDTHS], np.float64)
                whole += weight.nbytes
            continue
        macs = operations(layer, weight, shapes)
        counted[layer.weight] = counted.get(layer.weight, 0.0) + macs * activations * np.array(WIDTHS, np.float64)
        whole += macs * FLOAT_BITS**2
    return WidthCost(tuple(counted), np.stack(list(counted.values())), whole)


def stored(count: int, channels: int, bits: int) -> int:
    """Bytes of `count` weights with a scale and a zero point a channel."""
    each = weight_container(bits).bits
    return -(-count * each // 8) + 4 * channels + -(-channels * each // 8)


def operations(layer: Layer, weight: np.ndarray, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Multiply-accumulates of a layer on one sample."""
    shape = shapes.get(layer.output, ())
    if not shape or not all(shape[1:]):
        raise InputError(f"{layer.name}: --bit-ops counts operations, and the shape of what it puts out is not known: give --input, or --size")
    return int(np.prod(shape[1:], dtype=np.int64)) * (weight.size // weight.shape[layer.axis])


def output_shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """Shapes as far as ONNX's inference finds them; 0 for open sizes."""

    inferred = onnx.shape_inference.infer_shapes(network.to_model()).graph
    values = [*inferred.value_info, *inferred.output]
    return {value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim) for value in values}
