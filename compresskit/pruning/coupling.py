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

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import fx

from compresskit.models.graph import ModelGraph
from compresskit.pruning.rules import apply_rule
from compresskit.pruning.trace import Dims, Sizes, Trace


@dataclass(frozen=True)
class Coupling:
    """What a walk found. Labels are classes here, numbered from 0.

    Attributes:
        sizes: of all results.
        labels: labels of each node's result (a list of them where it yields several).
        tensors: labels of each parameter and buffer, by name.
        pinned: reason by class, for classes that may not be cut.
        classes: number of classes.
    """

    sizes: Sizes
    labels: dict[fx.Node, Any]
    tensors: dict[str, Dims]
    pinned: dict[int, str]
    classes: int


def couple(graph: ModelGraph, sizes: Sizes, *, narrow_heads: bool = False) -> Coupling:
    """Follow every channel through `graph`, whose `sizes` were measured; `narrow_heads` as in `Trace`."""
    trace = Trace(graph, sizes, narrow_heads)
    for node in graph.module.graph.nodes:
        trace.labels[node] = apply_rule(trace, node)
    roots, class_of = np.unique(trace.atoms.roots(np.arange(len(trace.atoms))), return_inverse=True)
    return Coupling(
        sizes,
        {node: _classes(labels, class_of) for node, labels in trace.labels.items()},
        {name: _classes(dims, class_of) for name, dims in trace.tensors.items()},
        {int(class_of[atom]): reason for atom, reason in trace.atoms.reasons().items()},
        len(roots),
    )


def _classes(labels: Any, class_of: np.ndarray) -> Any:
    """`labels` with classes instead of atoms."""
    if isinstance(labels, list):
        return [_classes(item, class_of) for item in labels]
    return tuple(None if item is None else class_of[item] for item in labels)
