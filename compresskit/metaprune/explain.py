"""What a metanetwork changes in a network: how large and how sensitive the filters of each layer are ("Meta Pruning via Graph Metanetworks", 5.4)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from compresskit.metaprune.reports import LayerStatistics
from compresskit.models.graph import ModelGraph
from compresskit.pruning.criteria import Context
from compresskit.pruning.criteria.gradients import weight_times_gradient
from compresskit.pruning.groups import Slices, find_groups
from compresskit.training.objectives import loss

Batches = Iterable[tuple[Tensor, Tensor]]


def compare_layers(before: ModelGraph, after: ModelGraph, batches: Batches) -> tuple[LayerStatistics, ...]:
    """The statistics of every layer that makes channels that can be cut, in the order in which the layers run.

    Args:
        after: `before` with other weights.
        batches: to take gradients on, more than once.
    """
    batches = list(batches)
    old, new = (_statistics(graph, batches) for graph in (before, after))
    return tuple(LayerStatistics(name.removesuffix(".weight"), norm, new[name][0], taylor, new[name][1]) for name, (norm, taylor) in old.items())


def _statistics(graph: ModelGraph, batches: Batches) -> dict[str, tuple[float, float]]:
    """Mean norm and mean sensitivity of the filters, by the name of their weight."""
    prunable = find_groups(graph)
    context = Context(prunable.graph.module, prunable.groups, batches, loss)
    weights = context.parameters()
    pieces = {piece.parameter: piece for group in prunable.groups for piece in group.slices if piece.role == "out" and piece.parameter in weights}
    norms = {name: float(_filters(piece, weights[name].detach()).norm(dim=1).mean()) for name, piece in pieces.items()}
    changes: dict[str, list[float]] = {name: [] for name in pieces}
    for products in weight_times_gradient(context):
        for name, piece in pieces.items():
            changes[name].append(float(_filters(piece, products[name]).sum(1).abs().mean()))
    return {name: (norm, float(torch.tensor(changes[name]).mean())) for name, norm in norms.items()}


def _filters(piece: Slices, values: Tensor) -> Tensor:
    """A row a filter."""
    return values.movedim(piece.dim, 0).flatten(1)
