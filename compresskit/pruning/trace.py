"""The state of one walk over a graph: which position of which dimension is which atom, and which atoms are tied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx

from compresskit.models.graph import ModelGraph
from compresskit.models.shapes import propagate

Labels = np.ndarray  # (size of a dimension,) int64: the atom at each position
Dims = tuple["Labels | None", ...]  # one entry a dimension; None: positions that no cut touches

# Stand for the batch while shapes are followed: primes, so that no product of widths is mistaken for it.
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
        made = np.arange(len(self), len(self) + count, dtype=np.int64)
        self._parent = np.concatenate([self._parent, made])
        return made

    def roots(self, labels: Labels) -> Labels:
        """The atom that stands for the class of each label."""
        roots = self._parent[labels]
        while not np.array_equal(above := self._parent[roots], roots):
            roots = above
        self._parent[labels] = roots
        return roots

    def tie(self, first: Labels, second: Labels) -> None:
        """Make `first[i]` and `second[i]` one class, for every i."""
        while not np.array_equal(one := self.roots(first), other := self.roots(second)):
            np.minimum.at(self._parent, np.maximum(one, other), np.minimum(one, other))

    def pin(self, labels: Labels | None, reason: str) -> None:
        """Forbid cutting these atoms and whatever is or gets tied to them."""
        if labels is not None and len(labels):
            self._pins.append((labels, reason))

    def reasons(self) -> dict[int, str]:
        """Why each pinned class is pinned (the first reason given), keyed by the atom that stands for it."""
        return {int(root): reason for labels, reason in reversed(self._pins) for root in np.unique(self.roots(labels))}


@dataclass(frozen=True)
class Sizes:
    """Shapes of all results of a graph, at a batch that can be told from every width.

    Attributes:
        batch: what stands for the batch.
        values: by node name: tensors without data, numbers, or lists of them.
    """

    batch: int
    values: Mapping[str, Any]

    def shape(self, node: Any) -> tuple[int, ...]:
        """Sizes of a result that is one tensor."""
        return tuple(self.values[node.name].shape)

    def at(self, batch: int, size: int) -> int:
        """What `size` is at another batch."""
        return size // self.batch * batch if size % self.batch == 0 else size


def measure(graph: ModelGraph) -> Sizes:
    """The sizes of `graph`, at a prime batch where its batch is open.

    Raises:
        InputError: a node does not fit its inputs.
    """
    widths = {size for tensor in graph.module.parameters() for size in tensor.shape}
    batch = next((prime for prime in BATCHES if all(width % prime for width in widths)), BATCHES[0])
    return Sizes(batch, propagate(graph.module, graph.example(batch if graph.free_batch else 1)))


@dataclass
class Trace:
    """Labels of what has been walked over; rules read those of their operands from it and return their results'.

    Attributes:
        narrow_heads: whether attention heads lose width, all alike, in place of being cut whole.
    """

    graph: ModelGraph
    sizes: Sizes
    narrow_heads: bool = False
    atoms: Atoms = field(default_factory=Atoms)
    labels: dict[fx.Node, Any] = field(default_factory=dict)
    tensors: dict[str, Dims] = field(default_factory=dict)
    _seen: dict[int, Dims] = field(default_factory=dict)

    def value(self, node: fx.Node) -> Any:
        """The result of `node`, without data."""
        return self.sizes.values[node.name]

    def shape(self, node: Any) -> tuple[int, ...]:
        return self.sizes.shape(node)

    def dims(self, operand: Any) -> Dims:
        """The labels of an operand that is one tensor; none for numbers."""
        labels = self.labels.get(operand, ()) if isinstance(operand, fx.Node) else ()
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
        """Tie two dimensions; where one is untouchable or of another size, pin the other for `reason`."""
        if first is not None and second is not None and len(first) == len(second):
            self.atoms.tie(first, second)
        else:
            self.pin((first, second), reason)

    def pin(self, dims: Iterable[Labels | None], reason: str) -> None:
        for labels in dims:
            self.atoms.pin(labels, reason)
