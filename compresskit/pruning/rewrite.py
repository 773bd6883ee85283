"""Constants that spell out a width (view, split, slice, pad ...), written anew after a cut."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx

from compresskit.models.graph import ModelGraph
from compresskit.models.lift import bind
from compresskit.pruning.coupling import Coupling
from compresskit.pruning.rules.base import axis, operator_name
from compresskit.pruning.rules.select import SPLITS, constant_tensor, slice_bounds
from compresskit.pruning.trace import Labels

aten = torch.ops.aten


class _Cut:
    """What a rewrite needs to know: how large everything was, and what is left of it."""

    def __init__(self, module: fx.GraphModule, before: ModelGraph, coupling: Coupling, keep: np.ndarray) -> None:
        self.module, self.before, self.coupling, self.keep = module, before, coupling, keep
        self._old = {node.name: node for node in before.module.graph.nodes}

    def labels(self, node: Any) -> Any:
        """Labels of a node's result; nodes are matched by name with the uncut graph that was followed."""
        return self.coupling.labels[self._old[node.name]]

    def shape(self, node: Any) -> tuple[int, ...]:
        """Shape of a node's result before the cut."""
        return self.coupling.sizes.shape(node)

    def kept(self, labels: Labels) -> int:
        return int(self.keep[labels].sum())

    def shrinks(self, labels: Labels | None) -> bool:
        return labels is not None and not bool(self.keep[labels].all())

    def size(self, node: fx.Node, written: Any, labels: Labels) -> Any:
        """A new size in place of one that was written as a number or computed from the batch."""
        if not isinstance(written, fx.Node):
            return self.kept(labels)
        batch = self.coupling.sizes.batch
        source = next(other for other in self.module.graph.nodes if other.op == "placeholder" and self.shape(other)[:1] == (batch,))
        with self.module.graph.inserting_before(node):
            current = self.module.graph.call_function(aten.sym_size.int, (source, 0))
            return self.module.graph.call_function(operator.mul, (current, self.kept(labels) // batch))


def rewrite_constants(module: fx.GraphModule, before: ModelGraph, coupling: Coupling, keep: np.ndarray) -> None:
    """Bring the constants of `module` (a copy of `before` whose tensors are cut) in line with the classes that stay, and recompile it."""
    state = _Cut(module, before, coupling, keep)
    for node in list(module.graph.nodes):
        if node.op == "call_function" and (rewrite := _REWRITES.get(operator_name(node))):
            rewrite(state, node)
    module.graph.lint()
    module.recompile()


def _resize(state: _Cut, node: fx.Node, argument: int, first: int = 0) -> None:
    """`argument` lists the sizes of the result from dimension `first` on."""
    sizes: list[Any] = list(node.args[argument])  # type: ignore[arg-type]
    for position, (written, labels) in enumerate(zip(sizes, state.labels(node)[first:], strict=False)):
        if state.shrinks(labels) and written != -1:
            sizes[position] = state.size(node, written, labels)
    node.update_arg(argument, sizes)


def _view(state: _Cut, node: fx.Node) -> None:
    _resize(state, node, 1)


def _filled(state: _Cut, node: fx.Node) -> None:
    _resize(state, node, 0)


def _unflatten(state: _Cut, node: fx.Node) -> None:
    _resize(state, node, 2, axis(bind(node)["dim"], len(state.shape(node.args[0]))))


def _split(state: _Cut, node: fx.Node) -> None:
    source = state.labels(node.args[0])
    along = axis(bind(node)["dim"], len(source))
    if state.shrinks(source[along]):
        sizes = [state.kept(dims[along]) for dims in state.labels(node)]
        node.target, node.args, node.kwargs = aten.split_with_sizes.default, (node.args[0], sizes, along), {}


def _slice(state: _Cut, node: fx.Node) -> None:
    source = node.args[0]
    along, start, stop, _ = slice_bounds(node, state.shape(source))
    labels = state.labels(source)[along]
    if state.shrinks(labels):
        node.target, node.args, node.kwargs = aten.slice.Tensor, (source, along, state.kept(labels[:start]), state.kept(labels[:stop])), {}


def _pad(state: _Cut, node: fx.Node) -> None:
    source, result = state.labels(node.args[0]), state.labels(node)
    amounts: list[Any] = list(node.args[1])  # type: ignore[arg-type]
    for back in range(len(amounts) // 2):
        labels, inner = result[-1 - back], source[-1 - back]
        if state.shrinks(labels):
            before = amounts[2 * back]
            amounts[2 * back : 2 * back + 2] = state.kept(labels[:before]), state.kept(labels[before + len(inner) :])
    node.update_arg(1, amounts)


def _index_select(state: _Cut, node: fx.Node) -> None:
    """The entries of the index that stay are numbered by what stays of the tensor that they pick from."""
    labels = state.labels(node.args[0])[axis(bind(node)["dim"], len(state.shape(node.args[0])))]
    if state.shrinks(labels):
        index: Any = node.args[2]
        constant = constant_tensor(state.before.module, index)
        assert constant is not None  # else the rule has pinned the labels
        renumbered = np.cumsum(state.keep[labels]) - 1
        owner, _, name = str(index.target).rpartition(".")
        setattr(state.module.get_submodule(owner), name, torch.from_numpy(renumbered[constant[state.keep[labels[constant]]]]))


def _attention(state: _Cut, node: fx.Node) -> None:
    """The scale that attention would derive from the width of its queries stays that of the whole width."""
    query = node.args[0]
    if bind(node)["scale"] is None and state.shrinks(state.labels(query)[-1]):
        node.update_kwarg("scale", state.shape(query)[-1] ** -0.5)


_REWRITES: dict[str, Callable[[_Cut, fx.Node], None]] = {
    **dict.fromkeys(("view", "reshape", "_unsafe_view", "expand", "broadcast_to", "new_zeros", "new_ones", "new_full"), _view),
    **dict.fromkeys(("zeros", "ones", "full", "empty"), _filled),
    **dict.fromkeys(SPLITS, _split),
    **dict.fromkeys(("slice", "narrow"), _slice),
    **dict.fromkeys(("constant_pad_nd", "pad"), _pad),
    "unflatten": _unflatten,
    "index_select": _index_select,
    "scaled_dot_product_attention": _attention,
}
