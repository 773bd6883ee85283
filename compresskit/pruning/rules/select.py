"""Rules for operators that join, part or pick positions: cat, split, slice, pad, index ..."""

from __future__ import annotations

import operator
from itertools import accumulate
from typing import Any

import numpy as np
from torch import fx

from compresskit.pruning.coupling import Dims, Labels, Trace
from compresskit.pruning.rules.base import axis, operator_name, rule


def _with(dims: Dims, index: int, labels: Labels | None) -> Dims:
    return (*dims[:index], labels, *dims[index + 1 :])


@rule("cat", "concat", "concatenate")
def cat(trace: Trace, node: fx.Node) -> Dims:
    """Joined along one dimension; the others are tied as in addition."""
    parts: Any = node.args[0]
    along = axis(node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0), len(trace.shape(node)))  # type: ignore[arg-type]
    labels = [trace.dims(part) for part in parts]
    joined = _joined(trace, [dims[along] for dims in labels], [trace.shape(part)[along] for part in parts])
    return _with(_tied(trace, node, labels, skip=along), along, joined)


def _joined(trace: Trace, labels: list[Labels | None], sizes: list[int]) -> Labels | None:
    if all(item is None for item in labels):
        return None
    pieces = []
    for item, size in zip(labels, sizes, strict=True):
        if item is None:
            item = trace.atoms.fresh(size)
            trace.atoms.pin(item, "cat joins it with values that cannot be cut")
        pieces.append(item)
    return np.concatenate(pieces)


def _tied(trace: Trace, node: fx.Node, labels: list[Dims], skip: int | None = None) -> Dims:
    first = labels[0]
    for other in labels[1:]:
        for index, (one, two) in enumerate(zip(first, other, strict=True)):
            if index != skip and (one is not None or two is not None):
                trace.tie(one, two, f"{operator_name(node)} lays it beside values that cannot be cut")
    return tuple(None if any(dims[index] is None for dims in labels) else item for index, item in enumerate(first))


@rule("stack")
def stack(trace: Trace, node: fx.Node) -> Dims:
    parts: Any = node.args[0]
    along = axis(node.args[1] if len(node.args) > 1 else 0, len(trace.shape(node)))  # type: ignore[arg-type]
    tied = _tied(trace, node, [trace.dims(part) for part in parts])
    return (*tied[:along], None, *tied[along:])


@rule("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk")
def split(trace: Trace, node: fx.Node) -> list[Dims]:
    source = trace.dims(node.args[0])
    along = axis(node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0), len(source))  # type: ignore[arg-type]
    results = [tuple(value.shape) for value in trace.values[node.name]]
    starts = [0, *accumulate(shape[along] for shape in results)]
    labels = source[along]
    return [
        _with(source, along, None if labels is None else labels[start : start + shape[along]]) for start, shape in zip(starts, results, strict=False)
    ]


@rule("slice", "narrow")
def cut_out(trace: Trace, node: fx.Node) -> Dims:
    """A run of positions; a stride over channels pins them."""
    source = trace.dims(node.args[0])
    bounds = slice_bounds(node, trace.shape(node.args[0]))  # type: ignore[arg-type]
    along, start, stop, step = bounds
    labels = source[along]
    if labels is None:
        return source
    if step != 1:
        trace.atoms.pin(labels, "slice picks every so manieth of them")
        return _with(source, along, None)
    return _with(source, along, labels[start:stop])


def slice_bounds(node: fx.Node, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Dimension, start, stop and step of a slice, counted from the front and within bounds; symbolic bounds are unbounded."""
    args: list[Any] = [*node.args[1:], None, None, None, None]
    along = axis(args[0] or 0, len(shape))
    size = shape[along]
    if operator_name(node) == "narrow":
        start = _within(args[1], size, 0)
        return along, start, start + (args[2] if isinstance(args[2], int) else size), 1
    return along, _within(args[1], size, 0), _within(args[2], size, size), args[3] if isinstance(args[3], int) else 1


def _within(value: Any, size: int, default: int) -> int:
    if not isinstance(value, int):
        return default
    return min(max(value + size if value < 0 else value, 0), size)


@rule("select")
def select(trace: Trace, node: fx.Node) -> Dims:
    """One position by its number: that dimension is pinned and gone."""
    source = trace.dims(node.args[0])
    along = axis(node.args[1], len(source))  # type: ignore[arg-type]
    trace.atoms.pin(source[along], "select picks it by its number")
    return (*source[:along], *source[along + 1 :])


@rule("unbind")
def unbind(trace: Trace, node: fx.Node) -> list[Dims]:
    source = trace.dims(node.args[0])
    along = axis(node.args[1] if len(node.args) > 1 else 0, len(source))  # type: ignore[arg-type]
    trace.atoms.pin(source[along], "unbind takes it apart")
    return [(*source[:along], *source[along + 1 :]) for _ in trace.values[node.name]]


@rule("index_select")
def index_select(trace: Trace, node: fx.Node) -> Dims:
    """A constant permutation or choice of positions; which positions is written anew after a cut."""
    source = trace.dims(node.args[0])
    along = axis(node.args[1], len(source))  # type: ignore[arg-type]
    labels, index = source[along], node.args[2]
    if labels is None:
        return source
    constant = constant_tensor(trace.graph.module, index)
    if constant is None:
        trace.atoms.pin(labels, "index_select picks from it by computed numbers")
        return _with(source, along, None)
    return _with(source, along, labels[constant])


def constant_tensor(module: fx.GraphModule, node: Any) -> np.ndarray | None:
    """The value of a `get_attr` node; None for anything else."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    return operator.attrgetter(str(node.target))(module).detach().cpu().numpy()


@rule("constant_pad_nd", "pad")
def pad(trace: Trace, node: fx.Node) -> Dims:
    """Padding of a labelled dimension adds channels that are the same everywhere: free to go with whatever they meet."""
    source, shape = trace.dims(node.args[0]), trace.shape(node)
    amounts: Any = node.args[1]
    mode = node.args[2] if operator_name(node) == "pad" and len(node.args) > 2 else "constant"
    result = list(source)
    for back in range(len(amounts) // 2):
        index = len(shape) - 1 - back
        before, after = amounts[2 * back : 2 * back + 2]
        if (before, after) == (0, 0) or source[index] is None:
            continue
        if mode != "constant" or min(before, after) < 0:
            trace.atoms.pin(source[index], f"{operator_name(node)} pads it with its own values")
            result[index] = None
        else:
            result[index] = np.concatenate([trace.atoms.fresh(before), source[index], trace.atoms.fresh(after)])
    return tuple(result)
