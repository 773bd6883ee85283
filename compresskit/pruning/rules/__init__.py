"""How each operator treats the channels that pass through it: one small rule an operator, registered by name.

A rule takes the trace and the node, ties or pins atoms, and returns the labels of the node's result: a tuple with one entry a
dimension, or a list of such tuples where it yields several tensors. An operator without a rule pins everything that enters it.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from compresskit.models.graph import leaf
from compresskit.pruning.rules import contraction, layers, pointwise, reshape, select  # noqa: F401  (they register themselves)
from compresskit.pruning.rules.base import LEAF_RULES, RULES, operator_name
from compresskit.pruning.trace import Trace


def apply_rule(trace: Trace, node: fx.Node) -> Any:
    """The labels of `node`'s result."""
    if node.op == "placeholder":
        return trace.free(node)
    if node.op == "get_attr":
        return trace.tensor(str(node.target), operator.attrgetter(str(node.target))(trace.graph.module))
    if node.op == "output":
        for operand in node.all_input_nodes:
            trace.pin(trace.dims(operand), "it is an output of the model")
        return ()
    if node.op == "call_module":
        return LEAF_RULES.get(type(leaf(trace.graph, node)), _unknown)(trace, node)
    if node.target is operator.getitem:
        source, index = node.args
        labels = trace.labels[source]  # type: ignore[index]
        return labels[index] if isinstance(labels, list) else ()  # type: ignore[index]
    if not isinstance(trace.value(node), torch.Tensor | list | tuple):
        return ()  # sizes and numbers
    name = operator_name(node)
    if name in RULES:
        return RULES[name](trace, node)
    if isinstance(node.target, torch._ops.OpOverload) and torch.Tag.pointwise in node.target.tags:
        return pointwise.pointwise(trace, node)
    return _unknown(trace, node)


def _unknown(trace: Trace, node: fx.Node) -> Any:
    what = type(leaf(trace.graph, node)).__name__ if node.op == "call_module" else operator_name(node)
    for operand in node.all_input_nodes:
        labels = trace.labels.get(operand, ())
        for dims in labels if isinstance(labels, list) else [labels]:
            trace.pin(dims, f"{what} ({node.name}) has no rule for cutting")
    value = trace.value(node)
    if isinstance(value, torch.Tensor):
        return trace.free(node)
    return [(None,) * item.ndim if isinstance(item, torch.Tensor) else () for item in value]
