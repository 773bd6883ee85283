"""Message passing of appendix B.1 over dense blocks of edges.

A message is a product of three factors, one of the sender, one of the receiver and one of the edge (equations 14 and 15). The receiver's is
common to all its messages, so that only the other two meet on edges, and sums of them are matrix products:

    mean over i of f1(v_i) f2(v_j) e_ij  =  f2(v_j) * mean over i of f1(v_i) e_ij

Numbers on edges are hidden-first, (width, groups, outs, ins): every hidden dimension is a stack of plain matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from compresskit.metaprune.layout import Layout

EPSILON = 1e-5
"""Under the root of a variance, which has no slope at 0 without it."""


class Moments(NamedTuple):
    """Of the messages that reach one row of receivers: (width, receivers) each."""

    total: Tensor
    squares: Tensor
    highest: Tensor
    lowest: Tensor


@dataclass(frozen=True)
class Wiring:
    """The nodes at both ends of every block, and how many edges reach a node.

    Attributes:
        sources: (groups, ins) of each block.
        targets: (groups, outs) of each block.
        incoming: (N,) edges that end at a node.
        outgoing: (N,) edges that begin at a node.
    """

    sources: tuple[Tensor, ...]
    targets: tuple[Tensor, ...]
    incoming: Tensor
    outgoing: Tensor


def wiring(layout: Layout, device: torch.device) -> Wiring:
    """The ends of a layout's edges, on `device`."""
    sources = tuple(block.sources.to(device) for block in layout.blocks)
    targets = tuple(block.targets.to(device) for block in layout.blocks)
    incoming, outgoing = (torch.zeros(layout.nodes, dtype=torch.int64, device=device) for _ in range(2))
    for begin, end in zip(sources, targets, strict=True):
        outgoing.index_add_(0, begin.reshape(-1), torch.full_like(begin, end.shape[1]).reshape(-1))
        incoming.index_add_(0, end.reshape(-1), torch.full_like(end, begin.shape[1]).reshape(-1))
    return Wiring(sources, targets, incoming, outgoing)


def mlp(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """Two linear layers."""
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, outputs))


class MessagePassing(nn.Module):
    """One layer: messages both ways along every edge, new nodes, then new edges (equations 14 to 19).

    Attributes:
        inverter: (width, 1), the edge inverter of equation 16.
    """

    inverter: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sender, self.receiver = mlp(width, width, width), mlp(width, width, width)
        self.aggregate = mlp(4 * width, width, width)
        self.edge_first, self.edge_second = mlp(width, width, width), mlp(width, width, width)
        self.register_buffer("inverter", torch.cat([torch.ones(width // 2), -torch.ones(width - width // 2)])[:, None], persistent=False)

    def forward(self, nodes: Tensor, wires: Wiring, *edges: Tensor) -> tuple[Tensor, ...]:
        """(N, width) and (width, groups, outs, ins) of each block, to the same."""
        sender, receiver = self.sender(nodes).T, self.receiver(nodes).T
        ahead = [_moments(values, _at(sender, ends)) for values, ends in zip(edges, wires.sources, strict=True)]
        back = [_moments(values.transpose(2, 3), _at(sender, ends)) for values, ends in zip(edges, wires.targets, strict=True)]
        nodes = (
            nodes
            + self.aggregate(_statistics(ahead, wires.targets, wires.incoming, receiver))
            + self.aggregate(_statistics(back, wires.sources, wires.outgoing, receiver * self.inverter))
        )
        first, second = self.edge_first(nodes).T, self.edge_second(nodes).T
        inverted = first * self.inverter
        updated = []
        for values, sources, targets in zip(edges, wires.sources, wires.targets, strict=True):
            left = torch.stack([_at(second, targets), _at(inverted, targets)], dim=-1)
            right = torch.stack([_at(first, sources), _at(second, sources)], dim=-2)
            updated.append(torch.addcmul(values, values, left @ right))
        return nodes, *updated


def _at(values: Tensor, ends: Tensor) -> Tensor:
    """(width, N) and (groups, n) to (width, groups, n)."""
    return values[:, ends]


def _moments(edges: Tensor, sender: Tensor) -> Moments:
    """(width, groups, receivers, senders) edges, (width, groups, senders) factors: moments of the products, for (groups * receivers) rows."""
    messages = edges * sender[:, :, None]
    lowest, highest = torch.aminmax(messages, dim=-1)
    column = sender[..., None]
    sums = (edges @ column, edges.square() @ column.square())
    return Moments(*(moment.flatten(1) for moment in (*sums, highest, lowest)))


def _statistics(parts: Sequence[Moments], ends: Sequence[Tensor], counts: Tensor, receiver: Tensor) -> Tensor:
    """Mean, standard deviation, maximum and minimum of all messages that reach each node (equation 18): (N, 4 * width); 0 where there are none."""
    place = torch.cat([nodes.reshape(-1) for nodes in ends]).expand(len(receiver), -1)
    total, squares, highest, lowest = (torch.cat(moments, dim=1) for moments in zip(*parts, strict=True))
    zeros = torch.zeros_like(receiver)
    number = counts.clamp(min=1)
    mean = zeros.scatter_add(1, place, total) / number
    variance = zeros.scatter_add(1, place, squares) / number - mean.square()
    high = zeros.scatter_reduce(1, place, highest, "amax", include_self=False)
    low = zeros.scatter_reduce(1, place, lowest, "amin", include_self=False)
    up, down = receiver * high, receiver * low
    spread = (receiver.square() * variance.clamp(min=0) + EPSILON).sqrt() * (counts > 0)
    return torch.cat([receiver * mean, spread, torch.maximum(up, down), torch.minimum(up, down)]).T
