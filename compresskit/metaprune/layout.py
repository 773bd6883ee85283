"""Layout: where every parameter of a network stands in its graph of nodes and edges.

nodes   channels, neurons, attention widths: (N, 13), the columns of `FEATURES`
edges   in dense blocks, one a weight: (groups, outs, ins, taps), the numbers of one edge being the taps of its kernel

conv 16 -> 32, 3x3              (1, 32, 16, 9)
the same, depthwise             (32, 1, 1, 9)
linear 64 -> 10                 (1, 10, 64, 1)
attention over 192 channels     (1, 192, 192, 3)   query, key and value side by side (appendix G.1)
x + f(x)                        (64, 1, 1, 1)      fixed at one, from each channel to itself (appendix D.2.1)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from compresskit.report import Skipped

FEATURES = (
    "norm.weight", "norm.bias", "norm.mean", "norm.var",
    "shortcut.norm.weight", "shortcut.norm.bias", "shortcut.norm.mean", "shortcut.norm.var",
    "bias", "shortcut.bias", "query.bias", "key.bias", "value.bias",
)  # fmt: skip
"""Columns of the nodes' features: of the norm and the layer before, then those of a projecting shortcut that ends here (appendices D.2.1, G.2)."""

DEFAULTS = (1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""What a node without them has: they change nothing."""

TAP_FEATURES = 9
"""A tap: its place in the kernel along three axes from -1 to 1, the inverse sizes of the kernel, and flags: query, key, value."""


@dataclass(frozen=True)
class Values:
    """A tensor whose entry i is a feature of node `nodes[i]`, in column `columns[i]`.

    Attributes:
        tensor: name of the parameter or buffer.
        shape: of the tensor.
        nodes: (n,) int64.
        columns: (n,) int64.
        written: whether it is written back; running statistics are not.
    """

    tensor: str
    shape: tuple[int, ...]
    nodes: Tensor
    columns: Tensor
    written: bool


@dataclass(frozen=True)
class Weights:
    """A tensor that fills some taps of a block.

    Attributes:
        tensor: name of the parameter or buffer.
        shape: of the tensor.
        grid: (groups, first, second, taps), the tensor's entries as a block.
        transposed: whether `first` counts inputs.
        rows: (outs,) int64, which outputs of the tensor these are; None: all in their order.
        written: whether it is written back; of a weight that is used several times, what its first use becomes is.
    """

    tensor: str
    shape: tuple[int, ...]
    grid: tuple[int, int, int, int]
    transposed: bool
    rows: Tensor | None
    written: bool


@dataclass(frozen=True)
class Block:
    """Edges from every source to every target of the same group.

    Attributes:
        name: of the layer.
        sources: (groups, ins) int64 nodes; one node may stand several times (a flattened image).
        targets: (groups, outs) int64 nodes.
        taps: (taps, TAP_FEATURES).
        weights: what the taps are filled with, in order; none: one tap, fixed at 1.
    """

    name: str
    sources: Tensor
    targets: Tensor
    taps: Tensor
    weights: tuple[Weights, ...]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(groups, outs, ins, taps)."""
        return (len(self.targets), self.targets.shape[1], self.sources.shape[1], len(self.taps))


@dataclass(frozen=True)
class Layout:
    """The graph of a network, without its numbers.

    Attributes:
        nodes: their number.
        values: what fills the nodes' features.
        blocks: in the order in which the layers run.
        skipped: trainable parameters without a conversion, which pass through unchanged, with the reason.
    """

    nodes: int
    values: tuple[Values, ...]
    blocks: tuple[Block, ...]
    skipped: tuple[Skipped, ...]

    @property
    def edges(self) -> int:
        """Their number, fixed ones included."""
        return sum(torch.Size(block.shape[:3]).numel() for block in self.blocks)
