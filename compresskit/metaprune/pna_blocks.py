"""What happens on the edges of one block, with gradients written out.

Only the edges themselves are kept for the gradients; everything else on edges is computed again. A chain of operators would keep five times as much.
Hidden dimensions do not meet here, so that they are taken a few at a time: what a processor has at hand holds all that one step needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

AT_HAND = 1 << 18
"""Numbers of one tensor that a step works on."""


class Moments(Function):
    """Sum, sum of squares, maximum and minimum over s of edges[r, s] * senders[s], for every receiver r.

    (width, groups, receivers, senders) and (width, groups, senders) to four times (width, groups, receivers).
    """

    @staticmethod
    def forward(ctx: Any, edges: Tensor, senders: Tensor) -> tuple[Tensor, ...]:
        moments = tuple(edges.new_empty(edges.shape[:3]) for _ in range(4))
        for part, row, total, squares, highest, lowest in _steps(edges, senders[:, :, None], *moments):
            messages, across = part * row, part.transpose(2, 3)
            torch.matmul(row, across, out=total[:, :, None])
            torch.matmul(row.square(), across.square(), out=squares[:, :, None])
            torch.amax(messages, dim=-1, out=highest)
            torch.amin(messages, dim=-1, out=lowest)
        ctx.save_for_backward(edges, senders, *moments[2:])
        return moments

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        edges, senders, *extremes = ctx.saved_tensors
        by_edges, by_senders = torch.empty_like(edges), torch.empty_like(senders)
        columns = (tensor[..., None] for tensor in (*extremes, *gradients))
        for part, row, highest, lowest, total, squares, high, low, out, out_row in _steps(edges, senders[:, :, None], *columns, by_edges, by_senders):
            messages = part * row
            slope = torch.addcmul(total, messages, squares, value=2)
            for extreme, gradient in ((highest, high), (lowest, low)):
                hits = torch.eq(messages, extreme, out=torch.empty_like(messages))
                slope.addcmul_(hits, gradient / hits.sum(dim=-1, keepdim=True))  # several that are equally extreme share it
            torch.mul(slope, row, out=out)
            torch.sum(slope.mul_(part), dim=2, out=out_row)
        return by_edges, by_senders


class Update(Function):
    """edges + edges * (left @ right), the product of rank 2 being computed anew for the gradients.

    (width, groups, outs, ins), (width, groups, outs, 2) and (width, groups, 2, ins).
    """

    @staticmethod
    def forward(ctx: Any, edges: Tensor, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(edges, left, right)
        updated = torch.empty_like(edges)
        for part, outs, ins, out in _steps(edges, left, right, updated):
            torch.addcmul(part, part, outs @ ins, out=out)
        return updated

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        edges, left, right = ctx.saved_tensors
        slopes = torch.empty_like(edges), torch.empty_like(left), torch.empty_like(right)
        for part, outs, ins, slope, out, out_left, out_right in _steps(edges, left, right, gradient, *slopes):
            torch.addcmul(slope, slope, outs @ ins, out=out)
            product = slope * part
            torch.matmul(product, ins.transpose(2, 3), out=out_left)
            torch.matmul(outs.transpose(2, 3), product, out=out_right)
        return slopes


def _steps(edges: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """All tensors, a few hidden dimensions of each at a time; a GPU takes all at once."""
    step = len(edges) if edges.is_cuda else max(1, AT_HAND * len(edges) // max(1, edges.numel()))
    return zip(*(tensor.split(step) for tensor in (edges, *others)), strict=True)
