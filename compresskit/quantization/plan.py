"""Which tensors of a network become integers, and which of them share their steps.

What counts is what ONNX Runtime fuses on a CPU: an operator runs in integers if all that it reads is dequantized just before it and what it
makes is quantized just after. A ReLU in between costs nothing: clipping at the least integer does its work, so it is left out.

    x ─Q─DQ─► Conv ─► Relu ─Q─DQ─► Add ...         one integer kernel       tensors: x, what the ReLU makes
               ▲DQ◄ int8 weights, int32 bias                                absorbed: what the convolution makes

Layers start it; elementwise operators and those that move values join in where they stand between layers. Everything else stays in float.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from compresskit.quantization.layers import KINDS, Layer, find_layers
from compresskit.quantization.network import Network, attribute, captured, is_plain, title
from compresskit.report import Skipped

JOINING = ("Add", "Mul", "Concat", "GlobalAveragePool", "AveragePool", "LeakyRelu", "Sigmoid")
MOVING = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather", "DepthToSpace", "Pad", "Resize")
"""These copy values: what they make has the steps of what they read."""
_WEIGHTY = ("ConvTranspose", "LSTM", "GRU", "RNN", "Einsum")


@dataclass(frozen=True)
class Plan:
    """What becomes integers.

    Attributes:
        layers: in the graph's order.
        tensors: activations to quantize, in the order in which they are made.
        sets: tensors that share their steps; every tensor is in one set.
        integer: the nodes that run in integers, each by its first output.
        absorbed: what layers and others make before a ReLU that is left out, and what the ReLU made.
        skipped: what has weights, or comes from elsewhere, and stays as it is; and why.
    """

    layers: tuple[Layer, ...]
    tensors: tuple[str, ...]
    sets: tuple[tuple[str, ...], ...]
    integer: frozenset[str]
    absorbed: Mapping[str, str]
    skipped: tuple[Skipped, ...]

    def result(self, name: str) -> str:
        """What a node's output `name` is called once the ReLU behind it is left out."""
        return self.absorbed.get(name, name)


def make_plan(network: Network) -> Plan:
    """Plan static quantization, of weights and activations."""
    layers = {layer.output: layer for layer in find_layers(network)}
    useful = _useful(network, layers)
    integer: list[NodeProto] = []
    absorbed: dict[str, str] = {}
    quantized = {layer.input for layer in layers.values()}
    for node in network.nodes:
        results = _results(network, node)
        if node.output[0] in layers:
            # A matrix product may end in float, a convolution may not.
            ends = results if node.op_type == "Conv" or useful & set(results) else []
        elif useful & set(results) and _joins(network, node, quantized):
            ends = results
        else:
            continue
        integer.append(node)
        quantized.update(ends)
        absorbed.update((name, end) for name, end in zip(node.output, ends, strict=False) if name != end)
    made = (*network.inputs, *(name for node in network.nodes for name in node.output))
    tensors = tuple(name for name in made if name in quantized)
    sets = _sets(network, integer, tensors, absorbed)
    skipped = tuple(left_alone(network))
    return Plan(tuple(layers.values()), tensors, sets, frozenset(node.output[0] for node in integer), absorbed, skipped)


def left_alone(network: Network) -> Iterator[Skipped]:
    """What has weights, or comes from elsewhere, and stays in float."""
    done = {layer.output for layer in find_layers(network)}
    for node in network.nodes:
        if not is_plain(node):
            yield Skipped(title(node), f"{node.domain}.{node.op_type} is of a custom domain")
        elif any(True for _ in captured(node)):
            yield Skipped(title(node), f"{node.op_type} has a body of its own")
        elif node.op_type in KINDS and node.output[0] not in done:
            yield Skipped(title(node), f"this {node.op_type} has no stored, finite float32 weights, or factors that integers do not take")
        elif node.op_type in _WEIGHTY:
            yield Skipped(title(node), f"{node.op_type} has no integer kernel in ONNX Runtime")


def _useful(network: Network, layers: Mapping[str, Layer]) -> set[str]:
    """Tensors that a layer reads, at once or through operators that can join in: to make integers of others gains nothing."""
    useful = {layer.input for layer in layers.values()}
    for node in reversed(network.nodes):
        if node.op_type in (*JOINING, *MOVING, "Relu", "Clip") and is_plain(node) and useful & set(node.output):
            useful.update(filter(None, node.input))
    return useful


def _results(network: Network, node: NodeProto) -> list[str]:
    """What a node makes, and in place of that what a ReLU that alone reads it makes of it."""
    if node.op_type in MOVING:
        return [name for name in node.output if name]
    relu = _relu_after(network, node.output[0])
    return [node.output[0] if relu is None else relu]


def _relu_after(network: Network, name: str) -> str | None:
    """What the only reader of a tensor makes of it, where that is a ReLU, or clips from 0: no integer is below 0 after it."""
    readers = network.readers.get(name, [])
    if len(readers) != 1 or network.uses[name] != 1 or not is_plain(readers[0]) or readers[0].op_type not in ("Relu", "Clip"):
        return None
    if readers[0].op_type == "Clip":
        bounds = [network.constants.get(bound) for bound in readers[0].input[1:]]
        if not bounds or any(bound is None for bound in bounds) or np.any(bounds[0] != np.float32(0)):
            return None
    return readers[0].output[0]


def _joins(network: Network, node: NodeProto, quantized: set[str]) -> bool:
    """Whether a node without weights can run in integers, given the tensors that will be some."""
    if not is_plain(node):
        return False
    if node.op_type in JOINING:
        return all(name in quantized for name in node.input)
    return node.op_type in MOVING and node.input[0] in quantized and _copies(network, node)


def _copies(network: Network, node: NodeProto) -> bool:
    """Whether an operator of `MOVING` only copies, as set up here: pads by zeros, resizes to the nearest."""
    if node.op_type == "Resize":
        return attribute(node, "mode", b"nearest") == b"nearest"
    if node.op_type != "Pad":
        return True
    value = network.constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else np.float32(0)
    return attribute(node, "mode", b"constant") == b"constant" and value is not None and not np.any(value)


def _sets(network: Network, integer: list[NodeProto], tensors: tuple[str, ...], absorbed: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """Tensors joined by the nodes that copy values.

    A Concat joins what nothing else reads (elsewhere steps of their own are finer), unless only some of it comes from ReLUs that are left
    out: those need 0 as the least integer.
    """
    home = {name: name for name in tensors}
    relus = set(absorbed.values())

    def root(name: str) -> str:
        while home[name] != name:
            name = home[name]
        return name

    for node in integer:
        joined: list[str] = []
        if node.op_type in MOVING:
            joined = [node.input[0], *filter(None, node.output)]
        elif node.op_type == "Concat" and len({name in relus for name in node.input}) == 1:
            joined = [*(name for name in node.input if network.uses[name] == 1), absorbed.get(node.output[0], node.output[0])]
        for name in joined[1:]:
            home[root(name)] = root(joined[0])
    members: dict[str, list[str]] = {}
    for name in tensors:
        members.setdefault(root(name), []).append(name)
    return tuple(map(tuple, members.values()))
