"""Channel shuffles written as what they are: one constant permutation of one dimension.

    (N, 6, H, W) ──view──► (N, 2, 3, H, W) ──transpose──► (N, 3, 2, H, W) ──view──► (N, 6, H, W)      becomes
    (N, 6, H, W) ──index_select(1, [0 3 1 4 2 5])──► (N, 6, H, W)

A view of channels as a grid ties every row of the grid, so that a shuffle would let only whole columns be cut; a permutation ties nothing.
Whether a chain of operators is a permutation is not read off their arguments but tried: they run on numbered elements.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx

from compresskit.models.graph import ModelGraph
from compresskit.pruning.coupling import Sizes
from compresskit.pruning.rules.base import operator_name

aten = torch.ops.aten

_VIEWS = {"view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "select", "contiguous", "clone"}
_SHUFFLES = {"permute", "transpose", "swapaxes", "channel_shuffle"}
_TRIALS = (2, 3)  # batches without a common factor: what is a permutation at both does not hang on the batch


def straighten(graph: ModelGraph, sizes: Sizes) -> tuple[ModelGraph, Sizes]:
    """`graph` with every shuffle of one dimension as an `index_select`, and its sizes.

    Results are equal to the bit and parameters are shared. A chain that picks some of the channels in another order counts as a shuffle too.
    A graph without any comes back as it is.
    """
    found = _find(graph, sizes)
    if not found:
        return graph, sizes
    module = fx.GraphModule(graph.module, copy.deepcopy(graph.module.graph))
    nodes = {node.name: node for node in module.graph.nodes}
    values = dict(sizes.values)
    for last, (first, dim, order) in found.items():
        index, selected = _replace(module, nodes[first], nodes[last], dim, order)
        values |= {index.name: order, selected.name: values[last]}
    module.graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))
    module.graph.lint()
    module.recompile()
    return graph.with_module(module.train(graph.module.training)), Sizes(sizes.batch, values)


def _replace(module: fx.GraphModule, first: fx.Node, last: fx.Node, dim: int, order: Tensor) -> tuple[fx.Node, fx.Node]:
    """Let everyone who reads `last` read a selection from `first`: the nodes of the order and of the selection."""
    name = f"{last.name}_order"
    module.register_buffer(name, order)
    with module.graph.inserting_after(last):
        index = module.graph.get_attr(name)
    with module.graph.inserting_after(index):
        selected = module.graph.call_function(aten.index_select.default, (first, dim, index))
    last.replace_all_uses_with(selected)
    return index, selected


def _find(graph: ModelGraph, sizes: Sizes) -> dict[str, tuple[str, int, Tensor]]:
    """Where shuffles end: name of the last node, to name of the node whose result is shuffled, dimension, and order."""
    found: dict[str, tuple[str, int, Tensor]] = {}
    for chain in _chains(graph):
        last = chain[-1].name
        if last in found:
            continue
        first, *others = [_selection(chain, sizes, batch) for batch in _TRIALS]
        if first and all(other and other[0] == first[0] and torch.equal(other[1], first[1]) for other in others):
            found[last] = (chain[0].name, *first)
    return found


def _chains(graph: ModelGraph) -> Iterator[list[fx.Node]]:
    """Runs of operators that only move elements, one of them a shuffle, behind the node that they start from; the longest first.

    They end where something else reads the result.
    """
    for node in graph.module.graph.nodes:
        if not _moves(node) or all(_moves(user) for user in node.users):
            continue
        run = [node]
        while _moves(run[0]):
            run.insert(0, run[0].args[0])
        last_shuffle = max((index for index, member in enumerate(run) if operator_name(member) in _SHUFFLES), default=0)
        yield from (run[start:] for start in range(last_shuffle))


def _moves(node: fx.Node) -> bool:
    return node.op == "call_function" and operator_name(node) in _VIEWS | _SHUFFLES


def _selection(chain: list[fx.Node], sizes: Sizes, batch: int) -> tuple[int, Tensor] | None:
    """The dimension and the order in which `chain` selects from its first node at `batch`, if that is all it does and there is an order.

    Example: (N, 4) through view (N, 2, 2), transpose, view (N, 4) gives (1, [0, 2, 1, 3]).
    """
    old, new = (tuple(sizes.at(batch, size) for size in sizes.values[node.name].shape) for node in (chain[0], chain[-1]))
    dim = _only_difference(old, new)
    if dim is None:
        return None
    numbered = torch.arange(torch.Size(old).numel()).view(old)
    moved = _run(chain, numbered, sizes, batch)
    for along in range(len(old)) if old == new else [dim]:
        order = moved.movedim(along, 0).reshape(new[along], -1)[:, 0] // numbered.stride(along) % old[along]
        if torch.equal(numbered.index_select(along, order), moved):
            return None if torch.equal(order, torch.arange(old[along])) else (along, order)
    return None


def _only_difference(old: tuple[int, ...], new: tuple[int, ...]) -> int | None:
    """The one dimension in which the shapes differ (0 where they are equal); None: more than one does, or nothing is in them."""
    different = [index for index, sizes in enumerate(zip(old, new, strict=False)) if operator.ne(*sizes)]
    if len(old) != len(new) or len(different) > 1 or not old or 0 in (*old, *new):
        return None
    return different[0] if different else 0


def _run(chain: list[fx.Node], source: Tensor, sizes: Sizes, batch: int) -> Tensor:
    """The result of `chain` on `source`; numbers that the graph computes are those at `batch`."""
    known: dict[fx.Node, Any] = {chain[0]: source}
    for node in chain[1:]:
        inputs = {other: known[other] if other in known else sizes.at(batch, sizes.values[other.name]) for other in node.all_input_nodes}
        args, kwargs = fx.map_arg((node.args, node.kwargs), inputs.__getitem__)
        known[node] = node.target(*args, **kwargs)  # type: ignore[operator]
    return known[chain[-1]]
