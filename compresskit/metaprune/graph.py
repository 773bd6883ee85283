"""The graph of a network: what each operator type becomes, found by walking over the network once.

ModelGraph ──walk──► Draft (nodes as they come, merges) ──number──► Layout
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, fx

from compresskit.metaprune.graph_draft import Attached, Carried, Draft, Ids, Layer, Role
from compresskit.metaprune.graph_layers import LEAVES
from compresskit.metaprune.graph_operators import apply
from compresskit.metaprune.graph_taps import taps
from compresskit.metaprune.graph_walk import Walk
from compresskit.metaprune.layout import FEATURES, Block, Layout, Values, Weights
from compresskit.models.graph import ModelGraph
from compresskit.pruning.rules.base import operator_name
from compresskit.report import Skipped

_ATTENTION = (Role.QUERY, Role.KEY, Role.VALUE)


def layout_of(graph: ModelGraph) -> Layout:
    """Where every parameter of `graph` stands in its graph of nodes and edges.

    Raises:
        InputError: a node does not fit its inputs.
    """
    walk = Walk(graph)
    for node in graph.module.graph.nodes:
        walk.nodes[node] = _nodes(walk, node)
    draft = walk.draft
    final, count = _numbered(draft)
    shapes = {name: tuple(tensor.shape) for name, tensor in graph.module.state_dict(keep_vars=True).items()}
    written = {name for name, tensor in graph.module.named_parameters(remove_duplicate=False) if tensor.requires_grad}
    values = tuple(_values(draft, entry, final, shapes[entry.tensor], entry.tensor in written) for entry in draft.attached)
    blocks = tuple(_blocks(draft, final, shapes, written))
    return Layout(count, values, blocks, tuple(_skipped(walk)))


def _nodes(walk: Walk, node: fx.Node) -> object:
    """What `node` yields, as nodes."""
    if node.op == "output":
        return None
    if node.op == "call_module":
        make = LEAVES.get(type(walk.leaf(node)))
        return walk.unknown(node) if make is None else make(walk, node)
    return apply(walk, node) if node.op == "call_function" else walk.unknown(node)


def _numbered(draft: Draft) -> tuple[Ids, int]:
    """The final number of each node of `draft`, and how many there are."""
    kept, final = np.unique(draft.homes(draft.home), return_inverse=True)
    return final, len(kept)


def _values(draft: Draft, entry: Attached, final: Ids, shape: tuple[int, ...], written: bool) -> Values:
    columns = np.array([FEATURES.index(_column(Role(role), entry.part)) for role in draft.role[entry.ids]])
    return Values(entry.tensor, shape, _tensor(final[entry.ids]), _tensor(columns), written and entry.part not in ("mean", "var"))


def _column(role: Role, part: str) -> str:
    if part == "layer":
        return "bias" if role is Role.MAIN else f"{role.name.lower()}.bias"
    return f"shortcut.norm.{part}" if role is Role.SHORTCUT else f"norm.{part}"


def _blocks(draft: Draft, final: Ids, shapes: dict[str, tuple[int, ...]], written: set[str]) -> Iterator[Block]:
    """A block a layer; queries, keys and values of the same inputs share one."""
    shared: dict[tuple[bytes, bytes], list[tuple[Role, Layer, Ids, Ids]]] = {}
    for layer in draft.layers:
        if isinstance(layer, Carried):
            yield Block("", _tensor(final[layer.sources])[:, None], _tensor(final[layer.targets])[:, None], taps((), None), ())
            continue
        for role, rows in _parts(draft, layer):
            targets = final[layer.targets[0, rows]] if rows is not None else final[layer.targets]
            if role in _ATTENTION and rows is not None:
                order = targets.argsort()
                key = final[layer.sources].tobytes(), targets[order].tobytes()
                shared.setdefault(key, []).append((role, layer, rows[order], targets[order]))
            else:
                yield _block(layer, final, targets, rows, shapes, written)
    for parts in shared.values():
        yield _attention(parts, final, shapes, written)


def _parts(draft: Draft, layer: Layer) -> Iterator[tuple[Role, Ids | None]]:
    """The rows of a weight by their role; None for all of them."""
    roles = draft.role[layer.targets]
    if not np.isin(roles, _ATTENTION).any() or len(roles) > 1 or layer.transposed:
        yield Role.MAIN, None
        return
    for role in np.unique(np.where(np.isin(roles[0], _ATTENTION), roles[0], Role.MAIN)):
        mine = roles[0] == role if role in _ATTENTION else ~np.isin(roles[0], _ATTENTION)
        yield Role(role), np.flatnonzero(mine)


def _block(layer: Layer, final: Ids, targets: Ids, rows: Ids | None, shapes: dict[str, tuple[int, ...]], written: set[str]) -> Block:
    weights = _weights(layer, rows, shapes, written)
    return Block(layer.name, _tensor(final[layer.sources]), _tensor(targets.reshape(len(layer.sources), -1)), taps(layer.kernel, None), (weights,))


def _attention(parts: list[tuple[Role, Layer, Ids, Ids]], final: Ids, shapes: dict[str, tuple[int, ...]], written: set[str]) -> Block:
    parts = sorted(parts, key=lambda part: part[0])
    _, layer, _, targets = parts[0]
    weights = tuple(_weights(own, rows, shapes, written) for _, own, rows, _ in parts)
    places = torch.cat([taps(own.kernel, role) for role, own, _, _ in parts])
    return Block(layer.name, _tensor(final[layer.sources]), _tensor(targets[None]), places, weights)


def _weights(layer: Layer, rows: Ids | None, shapes: dict[str, tuple[int, ...]], written: set[str]) -> Weights:
    chosen = None if rows is None else _tensor(rows)
    return Weights(layer.tensor, shapes[layer.tensor], layer.grid, layer.transposed, chosen, layer.first and layer.tensor in written)


def _skipped(walk: Walk) -> Iterator[Skipped]:
    """Trainable parameters that have no place in the graph."""
    module = walk.graph.module
    readers = {str(node.target): node for node in module.graph.nodes if node.op == "get_attr"}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and id(parameter) not in walk.placed:
            yield Skipped(name, _reason(walk, name, readers))


def _reason(walk: Walk, name: str, readers: dict[str, fx.Node]) -> str:
    if name in readers:
        users = ", ".join(dict.fromkeys(operator_name(user) for user in readers[name].users)) or "nothing"
        return f"a free parameter ({users} reads it) has no conversion"
    return f"{type(walk.graph.module.get_submodule(name.rpartition('.')[0])).__name__} has no conversion"


def _tensor(ids: Ids) -> Tensor:
    return torch.from_numpy(np.array(ids, dtype=np.int64))
