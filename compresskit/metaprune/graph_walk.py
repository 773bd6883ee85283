"""A walk over a network that follows nodes instead of numbers.

Every result is a tensor of the shape that it has at run time, holding at each place the node whose value stands there. Operators that only
move elements run as they are, on these numbers, so that nodes are exact through any reshape, split, concatenation, permutation and padding:

    conv (N, 2, 2, 2) ──► [[0 0] [1 1]] (a node a channel) ──flatten──► 0 0 0 0 1 1 1 1 ──► linear: weight i leads from the i-th of them

Pruning's coupling will not do: it knows what can only be cut together, takes a residual stage or a head for one channel a place, and forgets what
no cut may touch, as behind a layer norm. Where it knows both ends of a weight, the two agree (a test).
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from compresskit.metaprune.graph_draft import NOTHING, Draft, Ids
from compresskit.models.graph import ModelGraph, leaf
from compresskit.models.shapes import shapes

SCORES = 1 << 40
"""From here on numbers stand for products of queries and keys, not for nodes."""


class Walk:
    """What is known halfway through a network.

    Attributes:
        draft: nodes and edges so far.
        nodes: of each result: a tensor of node ids, a list of them, or None where the result is no tensor.
        scores: the queries and keys, (heads, width) each, that the n-th product is of.
        placed: identities of the parameters and buffers that have a place in the graph.
        names: of parameters and buffers by identity: the first, where one tensor has several.
    """

    def __init__(self, graph: ModelGraph) -> None:
        self.graph = graph
        self.values = shapes(graph)
        self.draft = Draft()
        self.nodes: dict[fx.Node, Any] = {}
        self.scores: list[tuple[Ids, Ids]] = []
        self.placed: set[int] = set()
        self.names = {id(tensor): name for name, tensor in (*graph.module.named_parameters(), *graph.module.named_buffers())}
        self._outside: dict[tuple[str, int], Ids] = {}

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        return tuple(self.values[node.name].shape)

    def of(self, node: Any) -> Tensor:
        """The nodes in a result that is one tensor."""
        return self.nodes[node]

    def unknown(self, node: fx.Node) -> Any:
        """No nodes: for results of operators that nothing is known about."""
        value = self.values[node.name]
        if isinstance(value, Tensor):
            return _nothing(value)
        return [_nothing(item) if isinstance(item, Tensor) else None for item in value] if isinstance(value, list | tuple) else None

    def operands(self, node: fx.Node) -> list[fx.Node]:
        """The operands of `node` that are one tensor."""
        return [operand for operand in node.all_input_nodes if isinstance(self.values[operand.name], Tensor)]

    def take(self, tensor: Tensor) -> bool:
        """Whether `tensor` has no place in the graph yet; from here on it has."""
        new = id(tensor) not in self.placed
        self.placed.add(id(tensor))
        return new

    def channels(self, node: fx.Node, along: int) -> Ids:
        """The node at each position along one dimension of a result.

        Where several share a position (tokens of two kinds side by side), a node that they all lead to.
        """
        rows = compact(self.of(node)).movedim(along, 0)
        found = self.draft.homes(rows.reshape(rows.shape[0], -1).unique(dim=1).numpy())
        size = self.shape(node)[along]
        found = np.broadcast_to(np.where(found >= SCORES, NOTHING, found), (size, found.shape[1]))
        highest = found.max(axis=1)
        if not ((found == highest[:, None]) | (found == NOTHING)).all():
            made = self.draft.fresh(size, self.draft.deeper(found.reshape(-1)))
            for column in found.T:
                self.draft.carry(column, made)
            return made
        return highest

    def inputs(self, node: fx.Node, along: int) -> Ids:
        """As `channels`, for a layer that reads them; where nothing in the network makes them, there are nodes outside."""
        found = self.channels(node, along)
        if (found == NOTHING).any():
            key = (node.name, along)
            if key not in self._outside:
                self._outside[key] = self.draft.fresh(len(found))
            found = np.where(found == NOTHING, self._outside[key], found)
        self.draft.read[found] = True
        return found

    def spread(self, node: fx.Node, ids: Ids, along: int) -> Tensor:
        """The result of `node` with `ids` along one dimension."""
        shape = self.shape(node)
        view = [-1 if index == along % len(shape) else 1 for index in range(len(shape))]
        return torch.from_numpy(np.array(ids)).view(view).expand(shape)

    def leaf(self, node: fx.Node) -> nn.Module:
        return leaf(self.graph, node)

    def constant(self, node: fx.Node) -> Any:
        """The value of a buffer or parameter; of other results the numbers, or tensors without data."""
        return operator.attrgetter(str(node.target))(self.graph.module) if node.op == "get_attr" else self.values[node.name]


def _nothing(value: Tensor) -> Tensor:
    return torch.full((), NOTHING).expand(value.shape)


def compact(ids: Tensor) -> Tensor:
    """`ids` with every dimension along which nothing changes cut to size 1."""
    for dim in range(ids.ndim):
        first = ids.narrow(dim, 0, 1) if ids.shape[dim] else ids
        if ids.shape[dim] > 1 and (ids.stride(dim) == 0 or torch.equal(first.expand_as(ids), ids)):
            ids = first
    return ids


def collapse(ids: Tensor, dims: list[int], keepdim: bool) -> Tensor:
    """The node that dimensions have in common; nothing where they have several."""
    if not dims:
        return ids
    high = ids.amax(dims, keepdim=True)
    low = ids.where(ids != NOTHING, high).amin(dims, keepdim=True)
    result = high.where(low == high, NOTHING)
    return result if keepdim else result.squeeze(dims)
