"""Shapes of every value of a graph, and which of them follow the batch: learnt by running it on fake tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from compresskit.models.graph import ModelGraph
from compresskit.models.shapes import propagate

BATCH = "batch"
Dim = int | str | None
"""A size: a number, `BATCH`, or None where it depends on the batch in another way (`12 * batch`)."""

# Two batch sizes tell constants from sizes that follow the batch. Fake tensors cost nothing, so the second is large: `batch // 8` differs as well.
_PROBES = (2, 1000)


@dataclass(frozen=True)
class Traced:
    """Shape and element type of one tensor of the graph."""

    shape: tuple[Dim, ...]
    dtype: torch.dtype


def trace(graph: ModelGraph) -> dict[fx.Node, Any]:
    """What each node gives: a `Traced`, a `Dim`, or a tuple of these; other values as they are.

    Where the batch is a number, every size is one.

    Raises:
        InputError: the graph cannot run on fake tensors (its sizes depend on its data).
    """
    batches = _PROBES if follows_batch(graph) else (1,)
    runs = zip(*(_run(graph, batch) for batch in batches), strict=True)
    return {node: _merge(list(values)) for node, values in zip(graph.module.graph.nodes, runs, strict=True)}


def follows_batch(graph: ModelGraph) -> bool:
    """Whether the exported model runs at any batch: the file leaves it open, and the graph has none baked in (that one is 1)."""
    return graph.free_batch and any(None in spec.shape for spec in graph.inputs)


def _run(graph: ModelGraph, batch: int) -> list[Any]:
    """Every node's value at one batch size, on fake tensors."""
    values = propagate(graph.module, [torch.empty(spec.sized(batch), dtype=spec.dtype) for spec in graph.inputs])
    return [values[node.name] for node in graph.module.graph.nodes]


def _merge(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, torch.Tensor):
        return Traced(tuple(_dim(sizes) for sizes in zip(*(value.shape for value in values), strict=True)), first.dtype)
    if isinstance(first, list | tuple):
        return tuple(_merge(list(items)) for items in zip(*values, strict=True))
    return _dim(values) if isinstance(first, int) else first


def _dim(sizes: Any) -> Dim:
    if len(set(sizes)) == 1:
        return sizes[0]
    return BATCH if tuple(sizes) == _PROBES else None
