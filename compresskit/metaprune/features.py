"""Between a network's tensors and its graph's features: two inverse functions, differentiable both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor

from compresskit.metaprune.layout import DEFAULTS, Block, Layout, Weights


def features(layout: Layout, tensors: Mapping[str, Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The features of a network's graph.

    Args:
        layout: of the network.
        tensors: its parameters and buffers, by name.

    Returns:
        nodes: (N, len(FEATURES)), in the widest type of the tensors that are read.
        blocks: (groups, outs, ins, taps) of each block, in the same.
    """
    names = [*(values.tensor for values in layout.values), *(weights.tensor for block in layout.blocks for weights in block.weights)]
    read = {name: tensors[name] for name in names}
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in read.values()), torch.float16)
    tensors = {name: tensor.to(dtype) for name, tensor in read.items()}
    device = next((tensor.device for tensor in tensors.values()), None)
    nodes = torch.tensor(DEFAULTS, dtype=dtype, device=device).repeat(layout.nodes, 1)
    if layout.values:
        where = torch.cat([values.nodes for values in layout.values]), torch.cat([values.columns for values in layout.values])
        nodes = nodes.index_put(where, torch.cat([tensors[values.tensor].reshape(-1) for values in layout.values]))
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
