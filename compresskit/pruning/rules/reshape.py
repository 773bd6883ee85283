"""Rules for operators that regroup or reorder dimensions: view, flatten, permute, expand, pixel shuffle ...

A reshape is read as a split of every dimension into common factors and a merge of those factors:

    (batch, 3·heads·d) ──split──► batch, 3, heads, d ──merge──► (batch, 3, heads, d)
    (batch, c, h, w)   ──split──► batch, c, h, w     ──merge──► (batch, c·h·w)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import dropwhile

import numpy as np
from torch import fx

from compresskit.models.lift import bind
from compresskit.pruning.rules.base import RULES, axes, operator_name, rule
from compresskit.pruning.trace import Dims, Labels, Trace

CONTRACTIONS = {"matmul", "bmm", "baddbmm", "scaled_dot_product_attention"}
SCALINGS = {"getitem", "mul", "div", "softmax", "_softmax"}
REORDERINGS = {
    "view", "reshape", "_unsafe_view", "squeeze", "unsqueeze", "permute", "transpose", "t", "contiguous", "clone", "expand", "select", "unbind",
    "split", "split_with_sizes", "chunk", "slice", "unflatten", "flatten",
}  # fmt: skip


@dataclass(frozen=True)
class _Factors:
    """A change of shape as common factors.

    Attributes:
        sizes: of the factors, in the order of the elements.
        old: which factors make up each dimension before.
        new: which factors make up each dimension after.
    """

    sizes: list[int]
    old: list[list[int]]
    new: list[list[int]]


@rule("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as")
def reshape(trace: Trace, node: fx.Node) -> Dims:
    """Any change of shape that keeps the order of the elements."""
    source = trace.dims(node.args[0])
    old, new = trace.shape(node.args[0]), trace.shape(node)
    name = operator_name(node)
    factors = common_factors(old, new)
    if factors is None:
        trace.pin(source, f"{name} from {old} to {new} mixes dimensions")
        return trace.free(node)
    labels: list[Labels | None] = [None] * len(factors.sizes)
    for dims, members in zip(source, factors.old, strict=True):
        if dims is not None and members:  # a single position always stays
            chosen, kept = _split(trace, node, dims, members, factors)
            labels[chosen] = kept
    result = tuple(_merge(trace, name, [factors.sizes[index] for index in members], [labels[index] for index in members]) for members in factors.new)
    if name in ("view_as", "reshape_as"):
        for given, wanted in zip(result, trace.dims(node.args[1]), strict=True):
            trace.tie(given, wanted, f"{name} takes its shape from values that cannot be cut")
    return result


def common_factors(old: Sequence[int], new: Sequence[int]) -> _Factors | None:
    """Sizes whose runs multiply up to both shapes; None: there are none.

    >>> common_factors((4, 6), (2, 2, 6))
    _Factors(sizes=[2, 2, 6], old=[[0, 1], [2]], new=[[0], [1], [2]])
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
            return _Factors(pieces, *members)
        piece = math.gcd(*left)
        if piece == 1 or piece not in left:
            return None
        for side in (0, 1):
            members[side][at[side]].append(len(pieces))
            left[side] //= piece
        pieces.append(piece)


def _split(trace: Trace, node: fx.Node, dims: Labels, members: list[int], factors: _Factors) -> tuple[int, Labels]:
    """Which factor of one dimension carries its labels from here on, and those labels, once what must be tied for that is tied."""
    sizes = [factors.sizes[index] for index in members]
    grid = trace.atoms.roots(dims).reshape(sizes)
    varying = [index for index in range(len(sizes)) if (grid != grid.take([0], axis=index)).any()]
    if not varying:
        trace.atoms.pin(dims, f"{operator_name(node)} leaves one channel only")
        varying = [0]
    chosen = varying[0] if len(varying) == 1 else _cut_factor(trace, node, members, factors, varying)
    rows = np.moveaxis(grid, chosen, -1).reshape(-1, sizes[chosen])
    for row in rows[1:]:
        trace.atoms.tie(rows[0], row)
    return members[chosen], rows[0].copy()


def _cut_factor(trace: Trace, node: fx.Node, members: list[int], factors: _Factors, varying: list[int]) -> int:
    """Which factor of a split dimension is to shrink: in attention whole heads, or the width that all share, elsewhere the longest factor.

    A factor that is picked from by number later on (query, key and value side by side) cannot.
    """
    open_ones = [index for index in varying if not _is_picked(trace, node, members[index], factors)] or varying
    if not _feeds_contraction(node):
        return max(open_ones, key=lambda index: factors.sizes[members[index]])
    if trace.narrow_heads:
        return open_ones[-1]
    heads = [index for index in open_ones if index != len(members) - 1]
    return heads[-1] if heads else open_ones[0]


def _is_picked(trace: Trace, node: fx.Node, factor: int, factors: _Factors) -> bool:
    """Whether, on the way from `node` through reordering, single positions of this factor are picked."""
    ahead = Trace(trace.graph, trace.sizes)
    labelled = [factor in members for members in factors.new]
    ahead.labels[node] = tuple(ahead.atoms.fresh(size) if mine and size > 1 else None for mine, size in zip(labelled, trace.shape(node), strict=True))
    for other in dropwhile(lambda other: other is not node, trace.graph.module.graph.nodes):
        if other is not node and other.op == "call_function" and any(operand in ahead.labels for operand in other.all_input_nodes):
            name = operator_name(other)
            if name in REORDERINGS:
                ahead.labels[other] = RULES[name](ahead, other)
            elif name == "getitem":
                ahead.labels[other] = ahead.labels[other.args[0]][other.args[1]]
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
        if name in REORDERINGS | SCALINGS:
            queue.extend(user.users)
    return False


def _merge(trace: Trace, name: str, sizes: list[int], labels: list[Labels | None]) -> Labels | None:
    """The labels of a dimension made of factors, of which one may be labelled."""
    labelled = [index for index, item in enumerate(labels) if item is not None]
    if not labelled:
        return None
    kept = max(labelled, key=lambda index: sizes[index])
    for index in labelled:
        if index != kept:
            trace.atoms.pin(labels[index], f"{name} merges it with another dimension that is cut")
    shape = [size if index == kept else 1 for index, size in enumerate(sizes)]
    return np.broadcast_to(np.asarray(labels[kept]).reshape(shape), sizes).reshape(-1)


@rule("permute")
def permute(trace: Trace, node: fx.Node) -> Dims:
    source = trace.dims(node.args[0])
    return tuple(source[index] for index in axes(bind(node)["dims"], len(source)))


@rule("transpose", "swapaxes")
def transpose(trace: Trace, node: fx.Node) -> Dims:
    dims = list(trace.dims(node.args[0]))
    first, second = axes(node.args[1:3], len(dims))  # type: ignore[arg-type]
    dims[first], dims[second] = dims[second], dims[first]
    return tuple(dims)


@rule("t", "numpy_T")
def reverse(trace: Trace, node: fx.Node) -> Dims:
    return trace.dims(node.args[0])[::-1]


@rule("expand", "broadcast_to")
def expand(trace: Trace, node: fx.Node) -> Dims:
    """New leading dimensions and stretched ones carry no labels."""
    source, shape = trace.dims(node.args[0]), trace.shape(node)
    return (*(None,) * (len(shape) - len(source)), *source)


@rule("expand_as")
def expand_as(trace: Trace, node: fx.Node) -> Dims:
    """As wide as another tensor, whose channels come along where it stretches."""
    source, wanted = trace.dims(node.args[0]), trace.dims(node.args[1])
    before, after = trace.shape(node.args[0]), trace.shape(node)
    leading = len(after) - len(before)
    for own, other, size in zip(source, wanted[leading:], before, strict=True):
        if size > 1:
            trace.tie(own, other, "expand_as takes its shape from values that cannot be cut")
    return wanted


@rule("repeat")
def repeat(trace: Trace, node: fx.Node) -> Dims:
    """Every copy of a channel is the channel."""
    source, shape = trace.dims(node.args[0]), trace.shape(node)
    padded = (*(None,) * (len(shape) - len(source)), *source)
    return tuple(None if labels is None else np.tile(labels, size // len(labels)) for labels, size in zip(padded, shape, strict=True))


@rule("pixel_shuffle")
def pixel_shuffle(trace: Trace, node: fx.Node) -> Dims:
    """(..., c * factor^2, h, w) to (..., c, h * factor, w * factor): channels that end up in one are one."""
    source, factor = trace.dims(node.args[0]), bind(node)["upscale_factor"]
    labels = source[-3]
    if labels is not None:
        grid = labels.reshape(-1, factor * factor)
        for column in grid.T[1:]:
            trace.atoms.tie(grid[:, 0], column)
        labels = grid[:, 0].copy()
    return (*source[:-3], labels, None, None)


@rule("pixel_unshuffle")
def pixel_unshuffle(trace: Trace, node: fx.Node) -> Dims:
    """(..., c, h, w) to (..., c * factor^2, h / factor, w / factor): channels that come from one are one."""
    source, factor = trace.dims(node.args[0]), bind(node)["downscale_factor"]
    labels = source[-3]
    return (*source[:-3], None if labels is None else labels.repeat(factor * factor), None, None)
