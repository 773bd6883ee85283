"""What of a model is timed: its operators with multiply-adds, told apart by everything but their widths."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn

from compresskit.models.graph import ModelGraph, leaf
from compresskit.models.shapes import shapes
from compresskit.wording import shown

KINDS = ("conv", "transposed", "linear", "product", "attention")
aten = torch.ops.aten
FACTORS: Mapping[Any, int] = {aten.matmul: 0, aten.mm: 0, aten.bmm: 0, aten.addmm: 1, aten.baddbmm: 1}
"""Where the first factor stands among the arguments of a product; the second follows it."""


@dataclass(frozen=True)
class Operator:
    """One kind of work, at any width.

    Attributes:
        kind: one of `KINDS`: "linear" multiplies by weights, "product" two activations; "attention" is scaled dot-product attention.
        shape: what it runs over beside its widths, the batch first: (batch, *space) of a convolution's input, the leading sizes of a linear
            layer's input, (..., rows) of a product's left factor, (..., queries, keys) of an attention.
        kernel, stride, dilation: of a convolution, one entry a direction.
        padding: of a convolution: all begins, then all ends.
        output_padding: of a transposed convolution.
        groups: of a convolution; 0 where each input is a group of its own (depthwise), and the inputs follow the outputs.
        multiplier: outputs for each input of a depthwise convolution.
    """

    kind: str
    shape: tuple[int, ...]
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    output_padding: tuple[int, ...] = ()
    groups: int = 1
    multiplier: int = 1

    def __str__(self) -> str:
        """For messages: "conv 3x3 of stride 2 on 1x32x32"."""
        kernel = f" {_times(self.kernel)}" if self.kernel else ""
        stride = f" of stride {_times(sorted(set(self.stride)))}" if set(self.stride) - {1} else ""
        groups = "" if self.groups == 1 else f" in {self.groups} groups" if self.groups else ", depthwise,"
        return f"{self.kind}{kernel}{stride}{groups} on {_times(self.shape)}"


@dataclass(frozen=True)
class Use:
    """One call of an operator.

    Attributes:
        node: the call.
        source: the operand whose width is contracted.
        inputs, outputs: widths. Query and value widths of an attention; for a depthwise convolution, `inputs` is 1.
        axis: the dimension of `source` and of the result that is a width: 1 for a convolution, else the last.
    """

    node: fx.Node
    source: fx.Node
    operator: Operator
    inputs: int
    outputs: int
    axis: int = -1

    @property
    def rank(self) -> int:
        """Of the weight of a `factorable` call as a matrix (outputs, inputs * kernel), at most."""
        return min(self.outputs, self.inputs * math.prod(self.operator.kernel))

    def __str__(self) -> str:
        name = self.node.target if self.node.op == "call_module" else self.node.name
        return f"{self.operator}, {self.inputs} to {self.outputs} wide ({shown(str(name))})"


def batch_of(graph: ModelGraph, wanted: int) -> int:
    """The batch that `graph` is exported and run at: its file's where that fixes one, 1 where the graph itself has it baked in, else as wanted."""
    fixed = next((spec.shape[0] for spec in graph.inputs if spec.shape), None)
    return fixed or (wanted if graph.free_batch else 1)


def uses(graph: ModelGraph, batch: int = 1) -> tuple[Use, ...]:
    """Every call that is timed, in order, at the `batch_of` the graph.

    Recurrent layers, einsum and convolutions with computed weights are not among them.

    Raises:
        InputError: a node does not fit its inputs.
    """
    values = shapes(graph, batch_of(graph, batch))
    found = (_use(graph, node, values) for node in graph.module.graph.nodes)
    return tuple(use for use in found if use is not None)


def factored(use: Use, rank: int) -> tuple[Use, Use]:
    """The two calls in place of a `factorable` one, where its weight becomes a product of that rank: to so many channels, and from them."""
    outer = use.operator if use.operator.kind == "linear" else _pointwise(use.operator)
    return replace(use, outputs=rank), replace(use, operator=outer, inputs=rank)


def factorable(use: Use) -> bool:
    """Whether a call is one of a layer that a product of two of its kind can stand in for."""
    return use.node.op == "call_module" and use.operator.kind in ("conv", "linear") and use.operator.groups == 1


def factors_of(calls: Iterable[Use]) -> Iterator[Use]:
    """All that those of `calls` would become that are `factorable`, at their full ranks."""
    return (part for call in calls if factorable(call) for part in factored(call, call.rank))


def fingerprint(calls: Iterable[Use]) -> str:
    """Stands for a model at any widths: a cut one has that of the whole."""
    return hashlib.sha256("\n".join(repr(call.operator) for call in calls).encode()).hexdigest()[:16]


def _use(graph: ModelGraph, node: fx.Node, values: Mapping[str, Any]) -> Use | None:
    if node.op == "call_module":
        module = leaf(graph, node)
        (source,) = node.all_input_nodes
        shape = tuple(values[source.name].shape)
        if isinstance(module, nn.Linear):
            return Use(node, source, Operator("linear", shape[:-1]), module.in_features, module.out_features)
        if isinstance(module, nn.modules.conv._ConvNd) and len(shape) == len(module.kernel_size) + 2:
            return _convolution(node, source, module, shape)
        return None
    packet = getattr(node.target, "overloadpacket", None) if node.op == "call_function" else None
    if packet is aten.scaled_dot_product_attention:
        operands: Any = node.args[:3]
        query, key, value = (values[operand.name].shape for operand in operands)
        return Use(node, operands[0], Operator("attention", (*query[:-1], key[-2])), query[-1], value[-1])
    first = FACTORS.get(packet)
    return None if first is None else _product(node, node.args[first], node.args[first + 1], values)


def _product(node: fx.Node, left: Any, right: Any, values: Mapping[str, Any]) -> Use | None:
    """(..., i, k) by (..., k, j); None where either is a vector."""
    one, two, out = (tuple(values[operand.name].shape) for operand in (left, right, node))
    if len(one) < 2 or len(two) < 2:
        return None
    kind = "linear" if right.op == "get_attr" and len(two) == 2 else "product"
    return Use(node, left, Operator(kind, out[:-1]), one[-1], out[-1])


def _convolution(node: fx.Node, source: fx.Node, module: Any, shape: tuple[int, ...]) -> Use:
    depthwise = module.groups == module.in_channels > 1 and not (module.transposed and module.out_channels > module.groups)
    operator = Operator(
        "transposed" if module.transposed else "conv",
        (shape[0], *shape[2:]),
        kernel=tuple(module.kernel_size),
        stride=tuple(module.stride),
        dilation=tuple(module.dilation),
        padding=_padding(module),
        output_padding=tuple(module.output_padding) if module.transposed else (),
        groups=0 if depthwise else module.groups,
        multiplier=module.out_channels // module.in_channels if depthwise else 1,
    )
    return Use(node, source, operator, 1 if depthwise else module.in_channels, module.out_channels, axis=1)


def _padding(module: Any) -> tuple[int, ...]:
    """All begins, then all ends; "same" puts the odd one at the end."""
    if module.padding == "valid":
        return (0,) * 2 * len(module.kernel_size)
    if module.padding == "same":
        totals = [dilation * (size - 1) for size, dilation in zip(module.kernel_size, module.dilation, strict=True)]
        return (*(total // 2 for total in totals), *(total - total // 2 for total in totals))
    return tuple(module.padding) * 2


def _pointwise(conv: Operator) -> Operator:
    """A convolution of kernel 1 on what `conv` makes."""
    ones = (1,) * len(conv.kernel)
    begins, ends = conv.padding[: len(ones)], conv.padding[len(ones) :]
    geometry = zip(conv.shape[1:], begins, ends, conv.dilation, conv.kernel, conv.stride, strict=True)
    space = ((size + begin + end - dilation * (kernel - 1) - 1) // stride + 1 for size, begin, end, dilation, kernel, stride in geometry)
    return Operator("conv", (conv.shape[0], *space), kernel=ones, stride=ones, dilation=ones, padding=(0,) * 2 * len(ones))


def _times(sizes: Any) -> str:
    return "x".join(map(str, sizes))
