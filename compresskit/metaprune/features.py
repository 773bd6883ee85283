"""Between a network's tensors and its graph's features: two inverse functions, differentiable both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from compresskit.metaprune.layout import DEFAULTS, Block, Layout, Weights


def features(layout: Layout, tensors: Mapping[str, Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The features of a network's graph.

    Args:
        layout: of the network.
        tensors: its parameters and buffers, by name.

    Returns:
        nodes: (N, len(FEATURES)).
        blocks: (groups, outs, ins, taps) of each block.
    """
    read = [tensors[values.tensor] for values in layout.values]
    like = next((tensor for tensor in tensors.values() if tensor.is_floating_point()), torch.zeros(()))
    nodes = torch.tensor(DEFAULTS, dtype=like.dtype, device=like.device).repeat(layout.nodes, 1)
    if layout.values:
        where = torch.cat([values.nodes for values in layout.values]), torch.cat([values.columns for values in layout.values])
        nodes = nodes.index_put(where, torch.cat([tensor.reshape(-1) for tensor in read]))
    return nodes, tuple(_block(block, tensors, nodes) for block in layout.blocks)


def parameters(layout: Layout, nodes: Tensor, blocks: Sequence[Tensor]) -> dict[str, Tensor]:
    """The trainable parameters that a graph's features stand for: what `features` read them from.

    Running statistics and parameters without a conversion are not among them.
    """
    written = {values.tensor: nodes[values.nodes, values.columns].reshape(values.shape) for values in layout.values if values.written}
    pieces: dict[str, list[tuple[Weights, Tensor]]] = {}
    for block, edges in zip(layout.blocks, blocks, strict=True):
        sizes = [weights.grid[3] for weights in block.weights]
        for weights, taps in zip(block.weights, edges.split(sizes, dim=3) if sizes else (), strict=True):
            if weights.written:
                pieces.setdefault(weights.tensor, []).append((weights, taps))
    return written | {name: _written(parts) for name, parts in pieces.items()}


def _block(block: Block, tensors: Mapping[str, Tensor], nodes: Tensor) -> Tensor:
    """(groups, outs, ins, taps)."""
    if not block.weights:
        return nodes.new_ones(block.shape)
    return torch.cat([_read(weights, tensors[weights.tensor]) for weights in block.weights], dim=3)


def _read(weights: Weights, tensor: Tensor) -> Tensor:
    grid = tensor.reshape(weights.grid)
    edges = grid.transpose(1, 2) if weights.transposed else grid
    return edges if weights.rows is None else edges[:, weights.rows]


def _written(parts: Sequence[tuple[Weights, Tensor]]) -> Tensor:
    """A tensor from the parts that its outputs went to."""
    weights, edges = parts[0]
    if weights.rows is not None:
        rows = torch.cat([part.rows for part, _ in parts if part.rows is not None])
        edges = torch.cat([taps for _, taps in parts], dim=1)[:, rows.argsort()]
    grid = edges.transpose(1, 2) if weights.transposed else edges
    return grid.reshape(weights.shape)
