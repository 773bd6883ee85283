"""Constants that spell out a width (view, split, slice, pad ...), written anew after a cut."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx

from compresskit.pruning.coupling import Coupling
from compresskit.pruning.rules.base import axis, operator_name
from compresskit.pruning.rules.select import constant_tensor, slice_bounds

aten = torch.ops.aten


class _Cut:
    """What a rewrite needs to know: how large everything was, and what is left of it."""

    def __init__(self, module: fx.GraphModule, coupling: Coupling, keep: np.ndarray, old: dict[str, fx.Node]) -> None:
        self.module, self.coupling, self.keep, self.old = module, coupling, keep, old

    def labels(self, node: Any) -> Any:
        """Labels of a node's result; nodes are matched by name with the uncut graph that was followed."""
        return self.coupling.labels.get(self.old[node.name], ()) if isinstance(node, fx.Node) and node.name in self.old else ()

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        return tuple(self.coupling.values[node.name].shape)

    def kept(self, labels: np.ndarray) -> int:
        return int(self.keep[labels].sum())

    def shrinks(self, labels: np.ndarray | None) -> bool:
        return labels is not None and not bool(self.keep[labels].all())


def rewrite_constants(module: fx.GraphModule, before: fx.GraphModule, coupling: Coupling, keep: np.ndarray) -> None:
    """Bring the constants of `module` (the cut copy of `before`) in line with the classes that stay, and recompile it."""
    state = _Cut(module, coupling, keep, {node.name: node for node in before.graph.nodes})
    for node in list(module.graph.nodes):
        if node.op == "call_function":
            rewrite = _REWRITES.get(operator_name(node))
            if rewrite:
                rewrite(state, node)
    module.graph.lint()
    module.recompile()


def _resize(state: _Cut, node: fx.Node, index: int) -> None:
    """Argument `index` is the list of sizes of the result (or of its last dimensions)."""
    labels, sizes = state.labels(node), list(node.args[index])  # type: ignore[arg-type]
    first = len(labels) - len(sizes)
    for position, size in enumerate(sizes):
        dims = labels[first + position]
        if state.shrinks(dims) and size != -1:
            sizes[position] = _size(state, node, size, state.kept(dims))
    node.update_arg(index, sizes)


def _size(state: _Cut, node: fx.Node, written: Any, size: int) -> Any:
    """A new size in place of one that was written as a number or computed from the batch."""
    if not isinstance(written, fx.Node):
        return size
    batch = state.coupling.batch
    source = next(other for other in state.module.graph.nodes if other.op == "placeholder" and state.shape(other)[:1] == (batch,))
    with state.module.graph.inserting_before(node):
        current = state.module.graph.call_function(aten.sym_size.int, (source, 0))
        return state.module.graph.call_function(operator.mul, (current, size // batch))


def _view(state: _Cut, node: fx.Node) -> None:
    _resize(state, node, 1)


def _filled(state: _Cut, node: fx.Node) -> None:
    _resize(state, node, 1 if operator_name(node).startswith("new_") else 0)


def _unflatten(state: _Cut, node: fx.Node) -> None:
    labels, sizes = state.labels(node), list(node.args[2])  # type: ignore[arg-type]
    first = axis(node.args[1], len(state.labels(node.args[0])))  # type: ignore[arg-type]
    for position, size in enumerate(sizes):
        if state.shrinks(labels[first + position]) and size != -1:
            sizes[position] = _size(state, node, size, state.kept(labels[first + position]))
    node.update_arg(2, sizes)


def _split(state: _Cut, node: fx.Node) -> None:
    source = state.labels(node.args[0])
    along = axis(node.args[2] if len(node.args) > 2 else 0, len(source))  # type: ignore[arg-type]
    if state.shrinks(source[along]):
        sizes = [state.kept(dims[along]) for dims in state.labels(node)]
        node.target = aten.split_with_sizes.default
        node.args = (node.args[0], sizes, along)
        node.kwargs = {}


def _slice(state: _Cut, node: fx.Node) -> None:
    source = node.args[0]
    along, start, stop, _ = slice_bounds(node, state.shape(source))  # type: ignore[arg-type]
    labels = state.labels(source)[along]
    if state.shrinks(labels):
        node.target = aten.slice.Tensor
        node.args = (source, along, state.kept(labels[:start]), state.kept(labels[:stop]))
        node.kwargs = {}


def _pad(state: _Cut, node: fx.Node) -> None:
    source, result = state.labels(node.args[0]), state.labels(node)
    amounts: list[int] = list(node.args[1])  # type: ignore[arg-type]
    for back in range(len(amounts) // 2):
        index = len(result) - 1 - back
        labels, inner = result[index], source[index]
        if labels is not None and inner is not None:
            before = amounts[2 * back]
            amounts[2 * back] = state.kept(labels[:before])
            amounts[2 * back + 1] = state.kept(labels[before + len(inner) :])
    node.update_arg(1, amounts)


def _index_select(state: _Cut, node: fx.Node) -> None:
    labels = state.labels(node.args[0])[axis(node.args[1], len(state.labels(node.args[0])))]  # type: ignore[arg-type]
    constant = constant_tensor(state.module, node.args[2])
    if constant is None or not state.shrinks(labels):
        return
    moved = np.cumsum(state.keep[labels]) - 1
    picked = torch.from_numpy(moved[constant[state.keep[labels[constant]]]])
    name = f"{node.name}_index"
    state.module.register_buffer(name, picked)
    with state.module.graph.inserting_before(node):
        node.update_arg(2, state.module.graph.get_attr(name))


_REWRITES: dict[str, Callable[[_Cut, fx.Node], None]] = {
    **dict.fromkeys(("view", "reshape", "_unsafe_view", "expand", "broadcast_to"), _view),
    **dict.fromkeys(("zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full"), _filled),
    **dict.fromkeys(("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk"), _split),
    **dict.fromkeys(("slice", "narrow"), _slice),
    **dict.fromkeys(("constant_pad_nd", "pad"), _pad),
    "unflatten": _unflatten,
    "index_select": _index_select,
}
