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
    """What messages both ways add up to: sum, sum of squares, maximum and minimum.

    Four times over ins, of edges[o, i] * sources[i], for every out; then four times over outs, of edges[o, i] * targets[o], for every in:
    (width, groups, outs, ins), (width, groups, ins) and (width, groups, outs) to four of (width, groups, outs) and four of (width, groups, ins).
    """

    @staticmethod
    def forward(ctx: Any, edges: Tensor, sources: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        ahead, back = (tuple(torch.empty_like(ends) for _ in range(4)) for ends in (targets, sources))
        for part, row, column, *moments in _steps(edges, sources[:, :, None], targets[..., None], *ahead, *back):
            square = part.square()
            torch.matmul(row, part.transpose(2, 3), out=moments[0][:, :, None])
            torch.matmul(row.square(), square.transpose(2, 3), out=moments[1][:, :, None])
            torch.matmul(column.transpose(2, 3), part, out=moments[4][:, :, None])
            torch.matmul(column.square().transpose(2, 3), square, out=moments[5][:, :, None])
            _extremes(part * row, 3, *moments[2:4])
            _extremes(torch.mul(part, column, out=square), 2, *moments[6:])
        ctx.save_for_backward(edges, sources, targets, *ahead[2:], *back[2:])
        return *ahead, *back

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        edges, sources, targets, *extremes = ctx.saved_tensors
        slopes = torch.empty_like(edges), torch.empty_like(sources), torch.empty_like(targets)
        for part, row, column, *rest in _steps(edges, sources[:, :, None], targets[..., None], *extremes, *gradients, *slopes):
            out, by_sources, by_targets = rest[12:]
            ahead = _slope(part * row, 3, rest[:2], rest[4:8])
            back = _slope(part * column, 2, rest[2:4], rest[8:12])
            torch.addcmul(ahead * row, back, column, out=out)
            torch.sum(ahead.mul_(part), dim=2, out=by_sources)
            torch.sum(back.mul_(part), dim=3, out=by_targets)
        return slopes


def _extremes(messages: Tensor, dim: int, highest: Tensor, lowest: Tensor) -> None:
    torch.amax(messages, dim=dim, out=highest)
    torch.amin(messages, dim=dim, out=lowest)


def _slope(messages: Tensor, dim: int, extremes: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """The gradient by messages, given those by their moments over `dim`, and the highest and the lowest of them."""
    total, squares, *others = (gradient.unsqueeze(dim) for gradient in gradients)
    slope = torch.addcmul(total, messages, squares, value=2)
    hits = torch.empty_like(messages)
    for extreme, gradient in zip(extremes, others, strict=True):
        torch.eq(messages, extreme.unsqueeze(dim), out=hits)
        slope.addcmul_(hits, gradient / hits.sum(dim=dim, keepdim=True))  # several that are equally extreme share it
    return slope


class Update(Function):
    """edges + edges * (left @ right), the product of rank 2 being computed anew for the gradients.

    (width, groups, outs, ins), (width, groups, outs, 2) and (width, groups, 2, ins).
    """

    @staticmethod
    def forward(ctx: Any, edges: Tensor, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(edges, left, right)
        return _updated(torch.empty_like(edges), edges, left, right)

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


def update_in_place(edges: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """What `Update` gives, in the place of `edges`; without gradients."""
    return _updated(edges, edges, left, right)


def _updated(out: Tensor, edges: Tensor, left: Tensor, right: Tensor) -> Tensor:
    for into, part, outs, ins in _steps(out, edges, left, right):
        torch.addcmul(part, part, outs @ ins, out=into)
    return out


def _steps(edges: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """All tensors, a few hidden dimensions of each at a time; a GPU takes all at once."""
    step = len(edges) if edges.is_cuda else max(1, AT_HAND * len(edges) // max(1, edges.numel()))
    return zip(*(tensor.split(step) for tensor in (edges, *others)), strict=True)
