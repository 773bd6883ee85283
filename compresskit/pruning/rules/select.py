"""Rules for operators that join, part or pick positions: cat, split, slice, pad, index_select ..."""

from __future__ import annotations

import operator
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from torch import fx

from compresskit.models.lift import bind
from compresskit.pruning.rules.base import axis, operator_name, replaced, rule
from compresskit.pruning.trace import Dims, Labels, Trace

SPLITS = ("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk")


@rule("cat", "concat", "concatenate")
def cat(trace: Trace, node: fx.Node) -> Dims:
    """Joined along one dimension; the others are tied as in addition."""
    parts: Any = node.args[0]
    along = axis(bind(node)["dim"], len(trace.shape(node)))
    labels = [trace.dims(part) for part in parts]
    joined = _joined(trace, [dims[along] for dims in labels], [trace.shape(part)[along] for part in parts])
    return replaced(_tied(trace, node, labels, skip=along), along, joined)


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
    """Joined along a new dimension, which stays whole."""
    parts: Any = node.args[0]
    along = axis(bind(node)["dim"], len(trace.shape(node)))
    tied = _tied(trace, node, [trace.dims(part) for part in parts])
    return (*tied[:along], None, *tied[along:])


@rule(*SPLITS)
def split(trace: Trace, node: fx.Node) -> list[Dims]:
    """Each part has its own positions."""
    source = trace.dims(node.args[0])
    along = axis(bind(node)["dim"], len(source))
    labels = source[along]
    ends = accumulate((value.shape[along] for value in trace.value(node)), initial=0)
    return [replaced(source, along, None if labels is None else labels[start:stop]) for start, stop in pairwise(ends)]


@rule("slice", "narrow")
def cut_out(trace: Trace, node: fx.Node) -> Dims:
    """A run of positions; a stride over channels pins them, and so do bounds that are computed."""
    source = trace.dims(node.args[0])
    along, start, stop, step = slice_bounds(node, trace.shape(node.args[0]))
    labels = source[along]
    if labels is None:
        return source
    if step != 1 or stop - start != trace.shape(node)[along]:
        trace.atoms.pin(labels, f"{operator_name(node)} picks some by their numbers")
        return replaced(source, along, None)
    return replaced(source, along, labels[start:stop])


def slice_bounds(node: fx.Node, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Dimension, start, stop and step of a slice, counted from the front and within bounds; computed bounds count as none."""
    bound = bind(node)
    along = axis(bound["dim"], len(shape))
    start = _within(bound["start"], shape[along], 0)
    if operator_name(node) == "narrow":
        length = bound["length"]
        return along, start, start + (length if isinstance(length, int) else shape[along]), 1
    return along, start, _within(bound["end"], shape[along], shape[along]), bound["step"]


def _within(value: Any, size: int, default: int) -> int:
    if not isinstance(value, int):
        return default
    return min(max(value + size if value < 0 else value, 0), size)


@rule("select")
def select(trace: Trace, node: fx.Node) -> Dims:
    """One position by its number: that dimension is pinned and gone."""
    source = trace.dims(node.args[0])
    along = axis(bind(node)["dim"], len(source))
    trace.atoms.pin(source[along], "select picks it by its number")
    return (*source[:along], *source[along + 1 :])


@rule("unbind")
def unbind(trace: Trace, node: fx.Node) -> list[Dims]:
    """A result for every position of one dimension."""
    source = trace.dims(node.args[0])
    along = axis(bind(node)["dim"], len(source))
    trace.atoms.pin(source[along], "unbind takes it apart")
    return [(*source[:along], *source[along + 1 :]) for _ in trace.value(node)]


@rule("index_select")
def index_select(trace: Trace, node: fx.Node) -> Dims:
    """A constant order or choice of positions: each entry of the index goes with what it picks, and is numbered anew after a cut."""
    source = trace.dims(node.args[0])
    along = axis(bind(node)["dim"], len(source))
    labels, index = source[along], node.args[2]
    if labels is None:
        return source
    constant = constant_tensor(trace.graph.module, index)
    if constant is None or _is_shared(index):
        trace.atoms.pin(labels, "index_select picks from it by numbers that are computed or shared")
        return replaced(source, along, None)
    picked = labels[constant.reshape(-1)]
    if len(picked) > 1:
        trace.atoms.tie(trace.dims(index)[0], picked)  # type: ignore[arg-type]
    return replaced(source, along, picked)


def constant_tensor(module: fx.GraphModule, node: Any) -> np.ndarray | None:
    """The value of a `get_attr` node; None for anything else."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    return operator.attrgetter(str(node.target))(module).detach().cpu().numpy()


def _is_shared(node: Any) -> bool:
    """Whether a tensor has several readers."""
    return sum(len(other.users) for other in node.graph.find_nodes(op="get_attr", target=node.target)) > 1


@rule("constant_pad_nd", "pad")
def pad(trace: Trace, node: fx.Node) -> Dims:
    """Padding of a labelled dimension adds channels that are the same everywhere: free to go with whatever they meet."""
    source = trace.dims(node.args[0])
    amounts: Any = node.args[1]
    result = list(source)
    for back in range(len(amounts) // 2):
        index = len(source) - 1 - back
        before, after = amounts[2 * back : 2 * back + 2]
        labels = source[index]
        if labels is None or (before, after) == (0, 0):
            continue
        if bind(node).get("mode", "constant") != "constant" or min(before, after) < 0:
            trace.atoms.pin(labels, f"{operator_name(node)} pads it with its own values")
            result[index] = None
        else:
            result[index] = np.concatenate([trace.atoms.fresh(before), labels, trace.atoms.fresh(after)])
    return tuple(result)
