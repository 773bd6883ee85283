"""Which positions of which tensors stand or fall together, read off the graph by following every channel through it.

Each position along each dimension of a parameter starts as an atom of its own. Operators hand atoms on (relu), tie them
(addition ties the channels that it adds), permute them (channel shuffle), repeat them (flatten) or pin them (softmax over channels):

    conv1 ──► [a0 a1 a2] ──┐
                           add ──► a0=b0, a1=b1, a2=b2 ──► flatten ──► [a0 a0 a1 a1 a2 a2] ──► linear (input dim)
    conv2 ──► [b0 b1 b2] ──┘

A set of tied atoms is a class. Cutting a class means dropping every position that carries one of its atoms, from parameters and from the
constants that spell out a width (`view`, `split`, `slice` ...). So channels are exact through any reshape, not only where a layer meets a layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx

from compresskit.models.graph import ModelGraph
from compresskit.models.shapes import propagate

Labels = np.ndarray  # (size of a dimension,) int64: the atom at each position
Dims = tuple["Labels | None", ...]  # one entry a dimension; None: positions that no cut touches

# Stands for the batch while shapes are followed: a prime, so that no product of widths is mistaken for it.
BATCHES = (131, 137, 139, 149, 151, 157, 163, 167)


class Atoms:
    """A union-find over atoms, with the reasons why some may not be cut."""

    def __init__(self) -> None:
        self._parent = np.zeros(0, dtype=np.int64)
        self._pins: list[tuple[Labels, str]] = []

    def __len__(self) -> int:
        return len(self._parent)

    def fresh(self, count: int) -> Labels:
        """`count` new atoms, each a class of its own."""
        start = len(self._parent)
        made = np.arange(start, start + count, dtype=np.int64)
        self._parent = np.concatenate([self._parent, made])
        return made

    def roots(self, labels: Labels) -> Labels:
        """The class of each label."""
        roots = self._parent[labels]
        while True:
            above = self._parent[roots]
            if np.array_equal(above, roots):
                break
            roots = above
        self._parent[labels] = roots
        return roots

    def tie(self, first: Labels, second: Labels) -> None:
        """Make `first[i]` and `second[i]` one class, for every i."""
        for one, other in zip(self.roots(first).tolist(), self.roots(second).tolist(), strict=True):
            low, high = sorted((self._root(one), self._root(other)))
            self._parent[high] = low

    def _root(self, atom: int) -> int:
        while (parent := int(self._parent[atom])) != atom:
            self._parent[atom] = atom = int(self._parent[parent])
        return atom

    def pin(self, labels: Labels | None, reason: str) -> None:
        """Forbid cutting these atoms and whatever is or gets tied to them."""
        if labels is not None and len(labels):
            self._pins.append((labels, reason))

    def reasons(self) -> dict[int, str]:
        """Why each pinned class is pinned (the first reason given), keyed by class."""
        return {int(root): reason for labels, reason in reversed(self._pins) for root in np.unique(self.roots(labels))}


@dataclass
class Trace:
    """The state of one walk over a graph; rules read the labels of their operands from it and return their results'."""

    graph: ModelGraph
    batch: int
    values: dict[str, Any]
    atoms: Atoms = field(default_factory=Atoms)
    labels: dict[fx.Node, Any] = field(default_factory=dict)
    tensors: dict[str, Dims] = field(default_factory=dict)
    _seen: dict[int, Dims] = field(default_factory=dict)

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        return tuple(self.values[node.name].shape)

    def dims(self, node: Any) -> Dims:
        """The labels of an operand; none for numbers."""
        labels = self.labels.get(node, ()) if isinstance(node, fx.Node) else ()
        return labels if isinstance(labels, tuple) else ()

    def tensor(self, name: str, tensor: torch.Tensor, ranks: int | None = None) -> Dims:
        """The labels of a parameter or buffer, fresh at the first sight of the tensor (a tied weight has several names).

        Only its first `ranks` dimensions are labelled (None: all); dimensions of size 1 never are.
        """
        known = self._seen.get(id(tensor))
        if known is None:
            sizes = [size if ranks is None or index < ranks else 1 for index, size in enumerate(tensor.shape)]
            known = self._seen[id(tensor)] = tuple(self.atoms.fresh(size) if size > 1 else None for size in sizes)
        return self.tensors.setdefault(name, known)

    def free(self, node: fx.Node) -> Dims:
        """No labels: for results that no cut may touch."""
        return (None,) * len(self.shape(node))

    def tie(self, first: Labels | None, second: Labels | None, reason: str) -> None:
        """Tie two dimensions; where one is untouchable, pin the other for `reason`."""
        if first is not None and second is not None:
            self.atoms.tie(first, second)
        else:
            self.atoms.pin(first, reason)
            self.atoms.pin(second, reason)

    def pin(self, dims: Iterable[Labels | None], reason: str) -> None:
        for labels in dims:
            self.atoms.pin(labels, reason)


@dataclass(frozen=True)
class Coupling:
    """What a walk found.

    Attributes:
        batch: size that stood for the batch.
        values: shapes by node name, at that batch.
        labels: labels of each node's result (a list of them where it yields several), classes instead of atoms.
        tensors: labels of each parameter and buffer by name, likewise.
        pinned: reason by class, for classes that may not be cut.
        classes: number that class ids stay below.
    """

    batch: int
    values: dict[str, Any]
    labels: dict[fx.Node, Any]
    tensors: dict[str, Dims]
    pinned: dict[int, str]
    classes: int


def couple(graph: ModelGraph) -> Coupling:
    """Follow every channel through `graph`.

    Raises:
        InputError: a node does not fit its inputs.
    """
    from compresskit.pruning.rules import apply_rule  # the rules work on the classes above

    batch = _batch(graph)
    inputs = [torch.empty(_sized(spec.shape, batch, graph.free_batch), dtype=spec.dtype) for spec in graph.inputs]
    trace = Trace(graph, batch, propagate(graph.module, inputs))
    for node in graph.module.graph.nodes:
        trace.labels[node] = apply_rule(trace, node)
    atoms = trace.atoms
    return Coupling(
        batch,
        trace.values,
        {node: _classes(atoms, labels) for node, labels in trace.labels.items()},
        {name: _classes(atoms, dims) for name, dims in trace.tensors.items()},
        atoms.reasons(),
        len(atoms),
    )


def _sized(shape: tuple[int | None, ...], batch: int, free: bool) -> tuple[int, ...]:
    sizes = tuple(batch if size is None else size for size in shape)
    return (batch, *sizes[1:]) if free and sizes else sizes


def _batch(graph: ModelGraph) -> int:
    widths = {size for tensor in graph.module.parameters() for size in tensor.shape}
    return next((prime for prime in BATCHES if all(width % prime for width in widths)), BATCHES[0])


def _classes(atoms: Atoms, labels: Any) -> Any:
    if isinstance(labels, list):
        return [_classes(atoms, item) for item in labels]
    if isinstance(labels, tuple):
        return tuple(None if item is None else atoms.roots(item.reshape(-1)) for item in labels)
    return labels
