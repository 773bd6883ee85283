"""What a quantized model should compute, in plain integer arithmetic: the slow reference that ONNX Runtime's kernels are held to.

    y = clip(round((sum (x - zero_x) w + b) * scale_x scale_w / scale_y) + zero_y)          Jacob et al. 2018, equations 4 and 7

Sums are exact (integers in float64); only the last product and its rounding may differ from a kernel's float32, and then by one step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from onnx import NodeProto
from torch.nn import functional as F

from compresskit.quantization.network import Network, attribute

Operator = Callable[[NodeProto, list[np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Code:
    """How a tensor of integers is read: real = scale * (q - zero), along `axis` where scales differ."""

    scale: np.ndarray
    zero: np.ndarray
    axis: int

    def centered(self, integers: np.ndarray) -> np.ndarray:
        """q - zero, as float64."""
        return integers.astype(np.float64) - self._spread(self.zero, integers.ndim)

    def real(self, integers: np.ndarray) -> np.ndarray:
        return self.centered(integers) * self._spread(self.scale, integers.ndim)

    def integers(self, real: np.ndarray) -> np.ndarray:
        """The nearest integers, unclipped."""
        return np.rint(real / self._spread(self.scale, real.ndim)) + self._spread(self.zero, real.ndim)

    def _spread(self, values: np.ndarray, rank: int) -> np.ndarray:
        shape = [1] * rank
        if values.ndim:
            shape[self.axis] = -1
        return values.astype(np.float64).reshape(shape)


@dataclass(frozen=True)
class Site:
    """A node that runs in integers: what it reads and makes, each an integer tensor's name and its code."""

    node: NodeProto
    inputs: tuple[tuple[str, Code], ...]
    result: tuple[str, Code]
    bounds: tuple[int, int]


def find_sites(network: Network) -> list[Site]:
    """Every node of a QDQ model that dequantized tensors go into and only a quantized one comes out of."""
    return [site for node in network.nodes if node.op_type in OPERATORS and (site := _site(network, node)) is not None]


def expected(network: Network, site: Site, integers: Mapping[str, np.ndarray]) -> np.ndarray:
    """The integers that a node should make of `integers`, which hold those that it reads."""
    codes = [code for _, code in site.inputs]
    values = [network.constants[name] if name in network.constants else integers[name] for name, _ in site.inputs]
    code = site.result[1]
    if site.node.op_type in ACCUMULATING:
        products = ACCUMULATING[site.node.op_type](site.node, [codes[0].centered(values[0]), values[1].astype(np.float64)])
        # The channels of a product are its axis 1 for convolutions, the last for matrices; so are the scales of the weights.
        channels = [1] * products.ndim
        channels[1 if site.node.op_type == "Conv" else -1] = -1
        step = codes[0].scale.astype(np.float64) * codes[1].scale.astype(np.float64)
        step = step.reshape(channels) if step.ndim else step
        bias = values[2].astype(np.float64).reshape(channels) if len(values) > 2 else 0.0
        real = (products + bias) * step
    else:
        real = OPERATORS[site.node.op_type](site.node, [code.real(value) for code, value in zip(codes, values, strict=True)])
    return np.clip(code.integers(real), *site.bounds)


def _site(network: Network, node: NodeProto) -> Site | None:
    makers = [network.makers.get(name) for name in node.input if name]
    readers = network.readers.get(node.output[0], [])
    if not all(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers) or len(readers) != 1:
        return None
    bounds = None
    if readers[0].op_type == "Clip":  # a width that no element type has
        bounds = [network.constants.get(name) for name in readers[0].input[1:]]
        readers = network.readers.get(readers[0].output[0], [])
    if len(readers) != 1 or readers[0].op_type != "QuantizeLinear":
        return None
    code = _code(network, readers[0])
    kind = np.iinfo(network.constants[readers[0].input[2]].dtype)
    ends = (kind.min, kind.max) if bounds is None else tuple(int(code.integers(np.asarray(bound))) for bound in bounds)
    inputs = tuple((maker.input[0], _code(network, maker)) for maker in makers if maker is not None)
    return Site(node, inputs, (readers[0].output[0], code), (ends[0], ends[1]))


def _code(network: Network, node: NodeProto) -> Code:
    scale, zero = (network.constants[name] for name in node.input[1:3])
    return Code(scale, zero, attribute(node, "axis", 1))


def _conv(node: NodeProto, values: list[np.ndarray]) -> np.ndarray:
    x, weight = (torch.from_numpy(value) for value in values)
    rank = x.ndim - 2
    strides, dilations = attribute(node, "strides", [1] * rank), attribute(node, "dilations", [1] * rank)
    margins = pads(node, x.shape[2:], weight.shape[2:], strides, dilations)
    # torch takes pairs, the last axis first.
    x = F.pad(x, [size for pair in reversed(margins) for size in pair])
    convolve = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    return convolve(x, weight, stride=strides, dilation=dilations, groups=attribute(node, "group", 1)).numpy()


def pads(node: NodeProto, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> list[tuple[int, int]]:
    """(before, after) of each spatial axis, as ONNX's Conv defines them."""
    mode = attribute(node, "auto_pad", b"NOTSET").decode()
    if not mode.startswith("SAME"):
        ends = attribute(node, "pads", [0] * 2 * len(sizes)) if mode == "NOTSET" else [0] * 2 * len(sizes)
        return list(zip(ends[: len(sizes)], ends[len(sizes) :], strict=True))
    found = []
    for size, taps, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        missing = max((-(-size // stride) - 1) * stride + (taps - 1) * dilation + 1 - size, 0)
        small, large = missing // 2, missing - missing // 2
        found.append((small, large) if mode == "SAME_UPPER" else (large, small))
    return found


def _gemm(node: NodeProto, values: list[np.ndarray]) -> np.ndarray:
    x, weight = values
    return x @ (weight.T if attribute(node, "transB", 0) else weight)


ACCUMULATING: dict[str, Operator] = {"Conv": _conv, "Gemm": _gemm, "MatMul": lambda _, values: values[0] @ values[1]}
"""Products of integers (inputs less their zero point, weights), bias and scales left to the caller."""

OPERATORS: dict[str, Operator] = {
    **ACCUMULATING,
    "Add": lambda _, values: values[0] + values[1],
    "Mul": lambda _, values: values[0] * values[1],
    "Concat": lambda node, values: np.concatenate(values, attribute(node, "axis")),
    "GlobalAveragePool": lambda _, values: values[0].mean(axis=tuple(range(2, values[0].ndim)), keepdims=True),
    "LeakyRelu": lambda node, values: np.where(values[0] < 0, values[0] * np.float32(attribute(node, "alpha", 0.01)), values[0]),
    "Sigmoid": lambda _, values: 1 / (1 + np.exp(-values[0])),
}
