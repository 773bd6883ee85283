"""What a model costs to run and to store: MACs, parameters, bytes and peak activation memory, node by node.

A MAC is one multiply-add of a convolution, linear layer, matrix product, attention or recurrent layer. Biases,
element-wise work, norms, softmax and pooling count 0. Convolutions count every kernel tap at every position, taps on
padding included, and causal attention counts in full: what a dense kernel executes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode

from compresskit.models.graph import ModelGraph, leaf
from compresskit.models.lift import bind
from compresskit.models.shapes import shapes, tensors

aten = torch.ops.aten
Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class NodeCost:
    """What one call of the graph costs.

    Attributes:
        name: `layer1.0.conv1` for a leaf, the node's own name otherwise.
        kind: class of the leaf (`Conv2d`) or name of the ATen operator (`relu`).
        macs: multiply-adds of one run.
        params: elements of the parameters that it reads; those shared between nodes count at the first.
        output_bytes: size of its results, views counted as if they were copies.
    """

    name: str
    kind: str
    macs: int
    params: int
    output_bytes: int


@dataclass(frozen=True)
class Cost:
    """What a whole model costs.

    Attributes:
        macs: multiply-adds of one run.
        params: elements of all parameters that the graph reads, each counted once.
        bytes: size of those parameters and of the buffers beside them.
        peak_activation_bytes: the most memory that inputs, intermediate results and outputs hold at once when nodes run
            in graph order and each result is freed after its last use. Views share memory with what they view, nothing
            is fused or reused in place, and the workspaces of kernels are not counted.
    """

    macs: int
    params: int
    bytes: int
    peak_activation_bytes: int


def node_costs(graph: ModelGraph, batch: int = 1) -> tuple[NodeCost, ...]:
    """The cost of every call in the graph, in order, at `batch` (at the graph's own batch where that is baked).

    Raises:
        InputError: a node does not fit its inputs.
    """
    return _node_costs(graph, shapes(graph, batch))


def total(graph: ModelGraph, batch: int = 1) -> Cost:
    """The cost of the whole graph at `batch` (at the graph's own batch where that is baked).

    Raises:
        InputError: a node does not fit its inputs.
    """
    values = shapes(graph, batch)
    nodes = _node_costs(graph, values)
    read = {id(tensor): tensor for node in graph.module.graph.nodes for tensor in _stored(graph, node)}
    return Cost(
        macs=sum(node.macs for node in nodes),
        params=sum(node.params for node in nodes),
        bytes=sum(tensor.nbytes for tensor in read.values()),
        peak_activation_bytes=_peak(graph.module.graph, values),
    )


def _node_costs(graph: ModelGraph, values: Mapping[str, Any]) -> tuple[NodeCost, ...]:
    seen: set[int] = set()
    costs = []
    for node in graph.module.graph.nodes:
        if node.op not in ("call_module", "call_function"):
            continue
        read = {id(tensor): tensor for source in (node, *node.all_input_nodes) for tensor in _own_parameters(graph, source)}
        costs.append(
            NodeCost(
                name=str(node.target) if node.op == "call_module" else node.name,
                kind=_kind(graph, node),
                macs=_macs(graph, node, values),
                params=sum(tensor.numel() for key, tensor in read.items() if key not in seen),
                output_bytes=sum(tensor.nbytes for tensor in tensors(values[node.name])),
            )
        )
        seen.update(read)
    return tuple(costs)


def _stored(graph: ModelGraph, node: fx.Node) -> list[Tensor]:
    """The parameters and buffers that a node itself holds."""
    if node.op == "call_module":
        module = leaf(graph, node)
        return [*module.parameters(), *module.buffers()]
    if node.op == "get_attr":
        value = _attribute(graph.module, str(node.target))
        return [value] if isinstance(value, Tensor) else []
    return []


def _attribute(module: nn.Module, name: str) -> Any:
    owner, _, attribute = name.rpartition(".")
    return getattr(module.get_submodule(owner), attribute)


def _own_parameters(graph: ModelGraph, node: fx.Node) -> list[Tensor]:
    return [tensor for tensor in _stored(graph, node) if isinstance(tensor, nn.Parameter)]


def _kind(graph: ModelGraph, node: fx.Node) -> str:
    if node.op == "call_module":
        return type(leaf(graph, node)).__name__
    packet = _packet(node)
    return str(getattr(packet, "__name__", packet))


def _packet(node: fx.Node) -> Any:
    """The operator of a call, whatever its overload."""
    return getattr(node.target, "overloadpacket", node.target)


def _macs(graph: ModelGraph, node: fx.Node, values: Mapping[str, Any]) -> int:
    out = values[node.name]
    if node.op == "call_module":
        (operand,) = node.all_input_nodes
        return _leaf_macs(leaf(graph, node), values[operand.name], out)
    count = MACS.get(_packet(node))
    if count is None:
        return 0
    arguments = fx.map_arg(bind(node), lambda source: values[source.name])
    return count(arguments, out[0] if isinstance(out, tuple) else out)


def _leaf_macs(module: nn.Module, operand: Tensor, out: Tensor) -> int:
    if isinstance(module, nn.modules.conv._ConvNd):
        return (operand if module.transposed else out).numel() * module.weight[0].numel()
    if isinstance(module, nn.Linear):
        return out.numel() * module.weight.shape[1]
    return 0


def _convolution(arguments: Arguments, out: Tensor) -> int:
    """Weights (out, in/groups, *kernel): each output is a product with one filter."""
    return out.numel() * arguments["weight"][0].numel()


def _transposed_convolution(arguments: Arguments, out: Tensor) -> int:
    """Weights (in, out/groups, *kernel): each input is scattered through one filter."""
    return arguments["input"].numel() * arguments["weight"][0].numel()


def _any_convolution(arguments: Arguments, out: Tensor) -> int:
    return (_transposed_convolution if arguments["transposed"] else _convolution)(arguments, out)


def _inner_product(left: str) -> Callable[[Arguments, Tensor], int]:
    """Each output is a product over the last axis of argument `left`."""
    return lambda arguments, out: out.numel() * arguments[left].shape[-1]


def _summed_batch_product(arguments: Arguments, out: Tensor) -> int:
    """addbmm: (b, n, m) by (b, m, p), summed over b."""
    return arguments["batch1"].numel() * out.shape[-1]


def _attention(arguments: Arguments, out: Tensor) -> int:
    """Queries (..., L, E) on S keys, then (..., L, S) weights on values (..., S, V)."""
    return (arguments["query"].numel() + out.numel()) * arguments["key"].shape[-2]


def _recurrent(arguments: Arguments, out: Tensor) -> int:
    """Every weight matrix, of each layer, direction and projection, multiplies once a time step and sample."""
    steps = arguments["data"] if "data" in arguments else arguments["input"]
    return steps.shape[:-1].numel() * sum(weight.numel() for weight in arguments["params"] if weight.ndim == 2)


def _einsum(arguments: Arguments, out: Tensor) -> int:
    """Of the batched matrix products that PyTorch turns it into."""
    with FlopCounterMode(display=False) as counter:
        torch.einsum(arguments["equation"], *arguments["tensors"])
    return counter.get_total_flops() // 2


MACS: Mapping[Any, Callable[[Arguments, Tensor], int]] = {
    **dict.fromkeys((aten.conv1d, aten.conv2d, aten.conv3d), _convolution),
    **dict.fromkeys((aten.conv_transpose1d, aten.conv_transpose2d, aten.conv_transpose3d), _transposed_convolution),
    aten.convolution: _any_convolution,
    **dict.fromkeys((aten.matmul, aten.mm, aten.bmm, aten.mv, aten.dot), _inner_product("self")),
    aten.linear: _inner_product("input"),
    aten.addmm: _inner_product("mat1"),
    aten.baddbmm: _inner_product("batch1"),
    aten.addbmm: _summed_batch_product,
    aten.einsum: _einsum,
    aten.scaled_dot_product_attention: _attention,
    **dict.fromkeys((aten.lstm, aten.gru, aten.rnn_tanh, aten.rnn_relu), _recurrent),
}


def _peak(graph: fx.Graph, values: Mapping[str, Any]) -> int:
    """Liveness of storages over the graph's order. Storages that belong to parameters and buffers are no activations."""
    step = {node: index for index, node in enumerate(graph.nodes)}
    stored = {key for node in step if node.op == "get_attr" for key in _storages(values[node.name])}
    sizes: dict[int, int] = {}
    birth: dict[int, int] = {}
    death: dict[int, int] = {}
    for node, index in step.items():
        last = max((step[user] for user in node.users), default=index)
        for key, size in _storages(values[node.name]).items():
            sizes[key] = size
            birth.setdefault(key, index)
            death[key] = max(death.get(key, last), last)
    change = [0] * (len(step) + 1)
    for key in sizes.keys() - stored:
        change[birth[key]] += sizes[key]
        change[death[key] + 1] -= sizes[key]
    return max(itertools.accumulate(change))


def _storages(value: Any) -> dict[int, int]:
    """Identity and bytes of the memory behind each tensor in `value`."""
    return {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors(value)}
