"""Rules for operators that regroup or reorder dimensions: view, flatten, permute, expand, pixel shuffle ...

A reshape is read as a split of every dimension into common factors and a merge of those factors:

    (batch, 3·heads·d) ──split──► batch, 3, heads, d ──merge──► (batch, 3, heads, d)
    (batch, c, h, w)   ──split──► batch, c, h, w     ──merge──► (batch, c·h·w)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import fx

from compresskit.pruning.coupling import Dims, Labels, Trace
from compresskit.pruning.rules.base import RULES, axis, operator_name, rule

CONTRACTIONS = {"matmul", "bmm", "baddbmm", "scaled_dot_product_attention", "einsum"}


@rule("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as")
def reshape(trace: Trace, node: fx.Node) -> Dims:
    """Any change of shape that keeps the order of the elements."""
    source = trace.dims(node.args[0])
    old, new = trace.shape(node.args[0]), trace.shape(node)  # type: ignore[arg-type]
    factors = common_factors(old, new)
    if factors is None:
        trace.pin(source, f"{operator_name(node)} from {old} to {new} mixes dimensions")
        return trace.free(node)
    pieces, split, merge = factors
    labels: list[Labels | None] = [None] * len(pieces)
    for dims, members in zip(source, split, strict=True):
        if dims is not None:
            _split(trace, node, dims, [pieces[index] for index in members], members, merge, labels)
    return tuple(_merge(trace, node, [pieces[index] for index in members], [labels[index] for index in members]) for members in merge)


def common_factors(old: Sequence[int], new: Sequence[int]) -> tuple[list[int], list[list[int]], list[list[int]]] | None:
    """Sizes whose runs multiply up to both shapes: the sizes, and which of them make up each dimension of `old` and of `new`.

    >>> common_factors((4, 6), (2, 2, 6))
    ([2, 2, 6], [[0, 1], [2]], [[0], [1], [2]])
    """
    pieces: list[int] = []
    members: tuple[list[list[int]], list[list[int]]] = ([[] for _ in old], [[] for _ in new])
    at, left = [-1, -1], [1, 1]
    shapes = (tuple(old), tuple(new))
    while True:
        for side in (0, 1):
            while left[side] == 1 and at[side] + 1 < len(shapes[side]):
                at[side] += 1
                left[side] = shapes[side][at[side]]
        if left == [1, 1]:
            return pieces, *members
        piece = math.gcd(*left)
        if piece == 1 or piece not in left:
            return None
        for side in (0, 1):
            members[side][at[side]].append(len(pieces))
            left[side] //= piece
        pieces.append(piece)


def _split(
    trace: Trace, node: fx.Node, dims: Labels, sizes: list[int], members: list[int], merge: list[list[int]], labels: list[Labels | None]
) -> None:
    """Give the labels of one dimension to one of the factors that it splits into, tying what must be tied for that."""
    grid = trace.atoms.roots(dims).reshape(sizes)
    varying = [index for index in range(len(sizes)) if (grid != grid.take([0], axis=index)).any()]
    if not varying:
        trace.atoms.pin(dims, f"{operator_name(node)} leaves one channel only")
        return
    chosen = varying[0] if len(varying) == 1 else _cut_factor(trace, node, sizes, members, merge, varying)
    rows = np.moveaxis(grid, chosen, -1).reshape(-1, sizes[chosen])
    for row in rows[1:]:
        if not np.array_equal(rows[0], row):
            trace.atoms.tie(rows[0], row)
    labels[members[chosen]] = rows[0].copy()


def _cut_factor(trace: Trace, node: fx.Node, sizes: list[int], members: list[int], merge: list[list[int]], varying: list[int]) -> int:
    """Which factor of a split dimension is to shrink: whole heads in attention, the longest factor elsewhere (channel shuffle).

    A factor that is picked from by number later on (query, key and value side by side) cannot.
    """
    open_ones = [index for index in varying if not _is_picked(trace, node, members[index], merge)] or varying
    if not _feeds_contraction(node):
        return max(open_ones, key=lambda index: sizes[index])
    heads = [index for index in open_ones if index != len(sizes) - 1]
    return heads[-1] if heads else open_ones[0]


def _is_picked(trace: Trace, node: fx.Node, factor: int, merge: list[list[int]]) -> bool:
    """Whether, on the way from `node` through reordering, single positions of this factor are picked."""
    labels = [trace.values[node.name].shape[index] if factor in members else 0 for index, members in enumerate(merge)]
    ahead = Trace(trace.graph, trace.batch, trace.values)
    ahead.labels[node] = tuple(ahead.atoms.fresh(size) if size > 1 else None for size in labels)
    following = iter(trace.graph.module.graph.nodes)
    for other in following:
        if other is node:
            break
    for other in following:
        if other.op == "call_function" and any(operand in ahead.labels for operand in other.all_input_nodes):
            name = operator_name(other)
            if name in _REORDERING:
                ahead.labels[other] = RULES[name](ahead, other)
            elif name == "getitem":
                ahead.labels[other] = ahead.labels[other.args[0]][other.args[1]]  # type: ignore[index]
    return bool(ahead.atoms.reasons())


def _feeds_contraction(node: fx.Node) -> bool:
    """Whether the result reaches a product of activations through nothing but reordering and scaling."""
    seen, queue = set(), list(node.users)
    while queue:
        user = queue.pop()
        if user in seen or user.op != "call_function":
            continue
        seen.add(user)
        name = operator_name(user)
        if name in CONTRACTIONS:
            return True
        if name in _REORDERING or name in ("getitem", "mul", "div", "softmax", "_softmax"):
            queue.extend(user.users)
    return False


_REORDERING = {
    "view", "reshape", "_unsafe_view", "squeeze", "unsqueeze", "permute", "transpose", "t", "contiguous", "clone", "expand", "select", "unbind",
    "split", "split_with_sizes", "chunk", "slice", "unflatten", "flatten",
}  # fmt: skip


def _merge(trace: Trace, node: fx.Node, sizes: list[int], labels: list[Labels | None]) -> Labels | None:
    """The labels of a dimension made of factors, of which one may be labelled."""
    labelled = [index for index, item in enumerate(labels) if item is not None]
    if not labelled:
        return None
    kept = max(labelled, key=lambda index: sizes[index])
    for index in labelled:
        if index != kept:
            trace.atoms.pin(labels[index], f"{operator_name(node)} merges it with another dimension that is cut")
    shape = [size if index == kept else 1 for index, size in enumerate(sizes)]
    return np.broadcast_to(np.asarray(labels[kept]).reshape(shape), sizes).reshape(-1)


@rule("permute")
def permute(trace: Trace, node: fx.Node) -> Dims:
    source = trace.dims(node.args[0])
    return tuple(source[axis(index, len(source))] for index in node.args[1])  # type: ignore[union-attr, arg-type]


@rule("transpose", "swapaxes")
def transpose(trace: Trace, node: fx.Node) -> Dims:
    dims = list(trace.dims(node.args[0]))
    first, second = (axis(index, len(dims)) for index in node.args[1:3])  # type: ignore[arg-type]
    dims[first], dims[second] = dims[second], dims[first]
    return tuple(dims)


@rule("t", "numpy_T")
def reverse(trace: Trace, node: fx.Node) -> Dims:
    return trace.dims(node.args[0])[::-1]


@rule("expand", "broadcast_to", "expand_as")
def expand(trace: Trace, node: fx.Node) -> Dims:
    """New leading dimensions and stretched ones carry no labels."""
    source, shape = trace.dims(node.args[0]), trace.shape(node)
    return (*(None,) * (len(shape) - len(source)), *source)


@rule("repeat")
def repeat(trace: Trace, node: fx.Node) -> Dims:
    """Every copy of a channel is the channel."""
    source, shape = trace.dims(node.args[0]), trace.shape(node)
    padded = (*(None,) * (len(shape) - len(source)), *source)
    return tuple(None if labels is None else np.tile(labels, size // len(labels)) for labels, size in zip(padded, shape, strict=True))


@rule("pixel_shuffle", "pixel_unshuffle", "channel_shuffle")
def shuffle(trace: Trace, node: fx.Node) -> Dims:
    """Channels that end up in one output channel (or come from one input channel) are one."""
    source = trace.dims(node.args[0])[1]
    if source is None:
        return trace.free(node)
    name, factor = operator_name(node), int(node.args[1])  # type: ignore[arg-type]
    if name == "pixel_unshuffle":
        leaving = source.repeat(factor * factor)
    elif name == "pixel_shuffle":
        grid = source.reshape(-1, factor * factor)
        for column in grid.T[1:]:
            trace.atoms.tie(grid[:, 0], column)
        leaving = grid[:, 0].copy()
    else:
        grid = source.reshape(factor, -1)
        for row in grid[1:]:
            trace.atoms.tie(grid[0], row)
        leaving = grid.T.reshape(-1)
    return tuple(leaving if index == 1 else None for index in range(len(trace.shape(node))))
