"""The nodes and edges of a graph while a walk over the network draws them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

Ids = np.ndarray  # int64 node ids; NOTHING where no node is known

NOTHING = -1


class Role(IntEnum):
    """What a layer's outputs are to the nodes that they became."""

    MAIN = 0
    SHORTCUT = 1
    QUERY = 2
    KEY = 3
    VALUE = 4


@dataclass(frozen=True)
class Layer:
    """A weight that leads from sources to targets; `grid` and `transposed` as in `layout.Weights`, `first`: whether it is its first use."""

    name: str
    tensor: str
    sources: Ids
    targets: Ids
    grid: tuple[int, int, int, int]
    transposed: bool
    kernel: tuple[int, ...]
    first: bool


@dataclass(frozen=True)
class Carried:
    """Edges fixed at one, from `sources[i]` to `targets[i]`."""

    sources: Ids
    targets: Ids


@dataclass(frozen=True)
class Attached:
    """A tensor whose entries belong to nodes: "weight", "bias", "mean", "var" of a norm, or "layer", the bias of a layer."""

    tensor: str
    part: str
    ids: Ids


@dataclass
class Draft:
    """Nodes are numbered as they come; where two turn out to be one, `home` of the one is the other.

    Attributes:
        home: (N,) the node that each one became.
        role: (N,) what it is to that node.
        read: (N,) whether a layer has read it: from then on it is a value of its own, and merges with no other.
        normed: (N,) whether a norm is attached.
        joined: (N,) whether a shortcut was merged into it.
        depth: (N,) layers before it.
        layers: what leads from nodes to nodes, in the order in which it runs.
        attached: what belongs to nodes.
    """

    home: Ids = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    role: Ids = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    read: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    normed: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    joined: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    depth: Ids = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    layers: list[Layer | Carried] = field(default_factory=list)
    attached: list[Attached] = field(default_factory=list)

    def fresh(self, count: int, depth: int = 0) -> Ids:
        """`count` new nodes."""
        made = np.arange(len(self.home), len(self.home) + count, dtype=np.int64)
        self.home = np.concatenate([self.home, made])
        self.depth = np.concatenate([self.depth, np.full(count, depth)])
        self.role = np.concatenate([self.role, np.zeros(count, dtype=np.int64)])
        self.read, self.normed, self.joined = (
            np.concatenate([flags, np.zeros(count, dtype=bool)]) for flags in (self.read, self.normed, self.joined)
        )
        return made

    def homes(self, ids: Ids) -> Ids:
        """What the nodes among `ids` became; other numbers stay."""
        found, known = ids.copy(), (ids >= 0) & (ids < len(self.home))
        found[known] = self.home[ids[known]]
        return found if np.array_equal(found, ids) else self.homes(found)

    def deeper(self, sources: Ids) -> int:
        """The depth behind `sources`."""
        known = sources[sources != NOTHING]
        return int(self.depth[known].max(initial=-1)) + 1

    def carry(self, sources: Ids, targets: Ids) -> None:
        """Edges fixed at one, from `sources[i]` to `targets[i]` where both are nodes."""
        both = (sources != NOTHING) & (targets != NOTHING)
        if both.any():
            self.layers.append(Carried(sources[both], targets[both]))
            self.read[sources[both]] = True

    def station(self, sources: Ids) -> Ids:
        """New nodes behind `sources`, with nothing but an edge fixed at one between."""
        made = self.fresh(len(sources), self.deeper(sources))
        self.carry(sources, made)
        return made

    def is_open(self, ids: Ids) -> bool:
        """Whether these are distinct nodes that nothing has read, so that a value added to theirs can become part of them."""
        return bool((ids != NOTHING).all() and len(np.unique(ids)) == len(ids) and not self.read[ids].any() and (self.home[ids] == ids).all())

    def is_plain(self, ids: Ids) -> bool:
        """Whether they are open and no shortcut was merged into them."""
        return self.is_open(ids) and not self.joined[ids].any() and (self.role[ids] == Role.MAIN).all()

    def merge(self, ids: Ids, into: Ids, role: Role) -> None:
        """Let `ids[i]` and `into[i]` be one node."""
        self.home[ids] = into
        self.role[ids] = role
        self.joined[into] = True

    def combine(self, first: Ids, second: Ids) -> Ids:
        """The nodes of a sum (or another function of two values, position by position), given the nodes of its operands.

        The deeper of two that nothing else has read stays, and the other becomes its shortcut; what was read before leads there by edges
        fixed at one. Where both were read, the sum has nodes of its own.
        """
        if self.is_plain(first) and self.is_plain(second) and not np.isin(first, second).any():
            main, other = (first, second) if self.depth[first].max() >= self.depth[second].max() else (second, first)
            self.merge(other, main, Role.SHORTCUT)
            return main
        for main, other in ((first, second), (second, first)):
            nodes = np.unique(main[main != NOTHING])
            if len(nodes) and self.is_open(nodes) and not np.isin(nodes, other).any():
                self.carry(other, main)
                return np.where(main == NOTHING, other, main)
        made = self.fresh(len(first), max(self.deeper(first), self.deeper(second)))
        self.carry(first, made)
        self.carry(second, made)
        return made
