"""Message passing of appendix B.1 over dense blocks of edges.

A message is a product of three factors, one of the sender, one of the receiver and one of the edge (equations 14 and 15). The receiver's is
common to all its messages, so that only the other two meet on edges, and sums of them are matrix products:

    mean over i of f1(v_i) f2(v_j) e_ij  =  f2(v_j) * mean over i of f1(v_i) e_ij

Numbers on edges are hidden-first, (width, groups, outs, ins): every hidden dimension is a stack of plain matrices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from compresskit.metaprune.pna_blocks import Moments, Update, update_in_place
from compresskit.metaprune.pna_wiring import Wiring

EPSILON = 1e-5
"""Under the root of a variance, which has no slope at 0 without it."""


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
        """(N, width) and (width, groups, outs, ins) of each stack, to the same. Without gradients, new edges take the place of the old ones."""
        nodes = self.messages(nodes, wires, edges)
        change = Update.apply if torch.is_grad_enabled() else update_in_place
        return nodes, *(change(values, *factors) for values, factors in zip(edges, self.factors(nodes, wires), strict=True))

    def messages(self, nodes: Tensor, wires: Wiring, edges: Iterable[Tensor]) -> Tensor:
        """New nodes (equations 14 to 18); one stack of edges is asked for at a time."""
        sender, receiver = _columns(self.sender(nodes)), self.receiver(nodes)
        moments = [
            Moments.apply(values, _at(sender, stack.sources), _at(sender, stack.targets)) for values, stack in zip(edges, wires.stacks, strict=True)
        ]
        ahead = _statistics([found[:4] for found in moments], wires.targets, wires.incoming, receiver)
        back = _statistics([found[4:] for found in moments], wires.sources, wires.outgoing, receiver * self.inverter.T)
        return nodes + self.aggregate(ahead) + self.aggregate(back)

    def factors(self, nodes: Tensor, wires: Wiring) -> list[tuple[Tensor, Tensor]]:
        """What equation 19 multiplies the edges of each stack with, as a product of rank 2: (width, groups, outs, 2), (width, groups, 2, ins)."""
        first, second = _columns(self.edge_first(nodes)), _columns(self.edge_second(nodes))
        inverted = first * self.inverter
        return [
            (
                torch.stack([_at(second, stack.targets), _at(inverted, stack.targets)], dim=-1),
                torch.stack([_at(first, stack.sources), _at(second, stack.sources)], dim=-2),
            )
            for stack in wires.stacks
        ]


def _columns(rows: Tensor) -> Tensor:
    """(N, width) to (width, N)."""
    return rows.T.contiguous()


def _at(values: Tensor, ends: Tensor) -> Tensor:
    """(width, N) and (groups, n) to (width, groups, n)."""
    return values.index_select(1, ends.reshape(-1)).unflatten(1, ends.shape)


def _rows(moments: Sequence[Tensor]) -> Tensor:
    """(width, groups, receivers) of each stack to (all receivers, width)."""
    return torch.cat([moment.flatten(1) for moment in moments], dim=1).T.contiguous()


def _statistics(parts: Sequence[tuple[Tensor, ...]], ends: Tensor, counts: Tensor, receiver: Tensor) -> Tensor:
    """Mean, standard deviation, maximum and minimum of all messages that reach each node (equation 18): (N, 4 * width); 0 where there are none."""
    total, squares, highest, lowest = (_rows(moments) for moments in zip(*parts, strict=True))
    zeros, place = torch.zeros_like(receiver), ends[:, None].expand_as(total)
    number = counts.clamp(min=1)[:, None]
    mean = zeros.scatter_add(0, place, total) / number
    variance = zeros.scatter_add(0, place, squares) / number - mean.square()
    high = zeros.scatter_reduce(0, place, highest, "amax", include_self=False)
    low = zeros.scatter_reduce(0, place, lowest, "amin", include_self=False)
    up, down = receiver * high, receiver * low
    spread = (receiver.square() * variance.clamp(min=0) + EPSILON).sqrt() * (counts > 0)[:, None]
    return torch.cat([receiver * mean, spread, torch.maximum(up, down), torch.minimum(up, down)], dim=1)
