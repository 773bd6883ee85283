"""Groups: channels that can only be cut together, and every slice of every tensor that goes with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from torch import fx, nn

from compresskit.models.graph import ModelGraph, leaf
from compresskit.pruning.coupling import Coupling, couple
from compresskit.pruning.permutations import straighten
from compresskit.pruning.trace import Labels, measure
from compresskit.report import Skipped

Role = Literal["out", "in", "norm", "bias", "other"]


@dataclass(frozen=True)
class Slices:
    """The part of one tensor that belongs to a group.

    Attributes:
        parameter: name of the parameter in the graph module.
        dim: its dimension that shrinks.
        role: "out" where a convolution or linear layer produces the channels, "in" where one consumes them, "norm" and "bias" for what
            goes along; "other" for free parameters such as position embeddings.
        positions: (n,) int64 indices along `dim`.
        channels: (n,) int64, which channel 0 .. size-1 of the group each position belongs to.
    """

    parameter: str
    dim: int
    role: Role
    positions: np.ndarray
    channels: np.ndarray


@dataclass(frozen=True)
class Group:
    """`size` interchangeable channels; cutting channel c removes all positions with `channels == c` from every slice.

    A residual stage of a ResNet is one group: the convolutions that are added up, their norms, and the inputs of whoever reads the sum.
    """

    name: str
    size: int
    slices: tuple[Slices, ...]

    def carriers(self) -> Iterator[Slices]:
        """The slices in which a channel of zeros is as good as cut: where it is read; where it is made, if nothing reads it."""
        read = np.zeros(self.size, dtype=bool)
        for piece in self.slices:
            if piece.role == "in":
                read[piece.channels] = True
                yield piece
        for piece in self.slices:
            unread = ~read[piece.channels]
            if piece.role in ("out", "bias", "other") and unread.any():
                yield Slices(piece.parameter, piece.dim, piece.role, piece.positions[unread], piece.channels[unread])


@dataclass(frozen=True)
class Prunable:
    """Everything that can be cut from one graph.

    Attributes:
        graph: the graph to cut: computes what the given one does, to the bit, with its channel shuffles straightened.
        groups: in the order in which their first producers run.
        classes: for each group, (size,) the class of each channel.
        dimensions: sets of classes that make up one dimension of one tensor; of each, at least one class must stay.
        skipped: groups that are left whole, with the reason.
        coupling: what all this was read from.
        ranks: for each layer that may be factorized, the classes of its singular directions. They make up the last groups, which have no slices.
    """

    graph: ModelGraph
    groups: tuple[Group, ...]
    classes: tuple[np.ndarray, ...]
    dimensions: tuple[np.ndarray, ...]
    skipped: tuple[Skipped, ...]
    coupling: Coupling
    ranks: Mapping[str, Labels] = field(default_factory=dict)

    @property
    def channels(self) -> tuple[Group, ...]:
        """The groups that are channels."""
        return self.groups[: len(self.groups) - len(self.ranks)]


@dataclass(frozen=True)
class _Labelled:
    """One dimension of one parameter, and what it is for."""

    parameter: str
    dim: int
    role: Role
    labels: Labels

    @property
    def layer(self) -> str:
        return self.parameter.rpartition(".")[0] or self.parameter


def find_groups(graph: ModelGraph, *, narrow_heads: bool = False) -> Prunable:
    """Find what can be cut from `graph`.

    Args:
        narrow_heads: whether attention heads lose width, all alike, in place of being cut whole.

    Raises:
        InputError: a node does not fit its inputs.
    """
    graph, sizes = straighten(graph, measure(graph))
    coupling = couple(graph, sizes, narrow_heads=narrow_heads)
    labelled = list(_labelled(graph, coupling))
    produced = [entry for entry in labelled if entry.role in ("out", "other")]
    groups, classes, skipped = [], [], []
    for members in _components([entry.labels for entry in produced]):
        name = _name(produced, members)
        free = np.array([member for member in members.tolist() if member not in coupling.pinned])
        if len(free) > 1:
            groups.append(Group(name, len(free), tuple(_slices(labelled, free))))
            classes.append(free)
        else:
            skipped.append(Skipped(name, coupling.pinned.get(int(members[0]), "all its channels hang together")))
    return Prunable(graph, tuple(groups), tuple(classes), tuple(_dimensions(coupling)), tuple(dict.fromkeys(skipped)), coupling)


def _labelled(graph: ModelGraph, coupling: Coupling) -> Iterator[_Labelled]:
    """Every labelled dimension of every parameter, in the order in which the parameters are used."""
    seen: set[str] = set()
    for node in graph.module.graph.nodes:
        for name in _parameters(graph, node):
            if name not in seen:
                seen.add(name)
                dims = enumerate(coupling.tensors.get(name, ()))
                yield from (_Labelled(name, dim, _role(graph, node, name, dim), labels) for dim, labels in dims if labels is not None)


def _parameters(graph: ModelGraph, node: fx.Node) -> Iterable[str]:
    if node.op == "get_attr":
        return [str(node.target)] if str(node.target) in dict(graph.module.named_parameters(remove_duplicate=False)) else []
    if node.op == "call_module":
        return [f"{node.target}.{name}" for name, _ in leaf(graph, node).named_parameters(recurse=False)]
    return []


def _role(graph: ModelGraph, node: fx.Node, name: str, dim: int) -> Role:
    if node.op == "get_attr":
        return "other"
    module = leaf(graph, node)
    if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
        if name.endswith(".bias"):
            return "bias"
        producing = 1 if isinstance(module, nn.modules.conv._ConvTransposeNd) and module.groups == 1 else 0
        return "out" if dim == producing else "in"
    return "other" if isinstance(module, nn.Embedding) else "norm"


def _components(arrays: list[Labels]) -> list[np.ndarray]:
    """Classes joined wherever they stand in one array, each component in order of appearance."""
    home: dict[int, int] = {}
    members: dict[int, list[int]] = {}
    for index, labels in enumerate(arrays):
        unique = list(dict.fromkeys(labels.tolist()))
        merged = sorted({home[label] for label in unique if label in home})
        target = merged[0] if merged else index
        joined = [label for old in merged for label in members.pop(old)]
        members[target] = joined + [label for label in unique if label not in home]
        home.update(dict.fromkeys(members[target], target))
    return [np.array(labels) for _, labels in sorted(members.items())]


def _name(produced: list[_Labelled], members: np.ndarray) -> str:
    """After the first layer that produces the channels; after a free parameter only where no layer does."""
    involved = [entry for entry in produced if np.isin(entry.labels, members).any()]
    return next((entry for entry in involved if entry.role == "out"), involved[0]).layer


def _slices(labelled: list[_Labelled], classes: np.ndarray) -> Iterator[Slices]:
    order = np.argsort(classes)
    for entry in labelled:
        positions = np.flatnonzero(np.isin(entry.labels, classes))
        if len(positions):
            channels = order[np.searchsorted(classes, entry.labels[positions], sorter=order)]
            yield Slices(entry.parameter, entry.dim, entry.role, positions, channels)


def _dimensions(coupling: Coupling) -> Iterator[np.ndarray]:
    """Distinct sets of classes that some dimension of some tensor consists of."""
    results = (dims for labels in coupling.labels.values() for dims in (labels if isinstance(labels, list) else [labels]))
    seen: set[bytes] = set()
    for dims in (*coupling.tensors.values(), *results):
        for unique in (np.unique(labels) for labels in dims if labels is not None):
            if unique.tobytes() not in seen:
                seen.add(unique.tobytes())
                yield unique
