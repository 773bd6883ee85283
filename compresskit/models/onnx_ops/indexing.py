"""Slices, gathers and triangles."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compresskit.models.onnx_ops.values import Node, Value, axis_of, op, pack, scalar, sizes, tensor


@op("Slice")
def slices(
    node: Node, x: Value, starts: Value | None = None, ends: Value | None = None, axes: Value | None = None, steps: Value | None = None
) -> Value:
    """Bounds are attributes below opset 10 and inputs from there; out of range they clamp."""
    if node.opset < 10:
        first, last = node.get("starts"), node.get("ends")
        dims, strides = node.get("axes"), None
    else:
        first, last = sizes(starts, "starts"), sizes(ends, "ends")
        dims = None if axes is None else sizes(axes, "axes")
        strides = None if steps is None else sizes(steps, "steps")
    dims = range(len(first)) if dims is None else dims
    for start, end, axis, step in zip(first, last, dims, strides or [1] * len(first), strict=True):
        x = _slice(x, start, end, step, axis_of(axis, x.ndim))
    return x


def _slice(x: Value, start: int, end: int, step: int, axis: int) -> Value:
    if isinstance(x, np.ndarray):
        return x[(slice(None),) * axis + (slice(start, end, step),)]
    if step > 0:
        return torch.ops.aten.slice.Tensor(x, axis, start, end, step)
    chosen = list(range(*slice(start, end, step).indices(x.shape[axis])))
    if chosen == list(reversed(range(x.shape[axis]))):
        return torch.flip(x, [axis])
    return x.index_select(axis, torch.from_numpy(np.array(chosen, np.int64)))


def run_of(indices: np.ndarray) -> tuple[int, int, int] | None:
    """Start, end and step of ascending, evenly spaced, non-negative indices (one axis of them), else None."""
    if indices.ndim != 1 or not indices.size or indices.dtype == object or indices[0] < 0:
        return None
    step = int(indices[1] - indices[0]) if indices.size > 1 else 1
    if step < 1 or not np.array_equal(indices, indices[0] + step * np.arange(indices.size)):
        return None
    return int(indices[0]), int(indices[-1]) + 1, step


@op("Gather")
def gather(node: Node, x: Value, indices: Value) -> Value:
    """Entries of one axis; the axes of `indices` take its place.

    Said as the plainest operator that does it: `select`, `slice`, an embedding, or else indexing.
    """
    axis = axis_of(node.get("axis", 0), x.ndim)
    if isinstance(x, np.ndarray) and isinstance(indices, np.ndarray):
        return pack(np.take(x, indices.astype(np.int64), axis=axis), x.dtype)
    x = tensor(x)
    if isinstance(indices, np.ndarray):
        if indices.ndim == 0:
            return x.select(axis, scalar(indices, "the index"))
        run = run_of(indices)
        if run is not None and run[1] <= x.shape[axis]:
            return _slice(x, *run, axis)
    elif isinstance(x, nn.Parameter) and axis == 0 and x.ndim == 2:
        return F.embedding(indices, x)
    return x[(slice(None),) * axis + (tensor(indices).to(torch.int64),)]


@op("GatherElements")
def gather_elements(node: Node, x: Tensor, indices: Value) -> Tensor:
    axis = axis_of(node.get("axis", 0), x.ndim)
    where = tensor(indices).to(torch.int64)
    return torch.gather(x, axis, torch.where(where < 0, where + x.shape[axis], where))


@op("Trilu")
def triangle(node: Node, x: Value, diagonal: Value | None = None) -> Tensor:
    offset = 0 if diagonal is None else scalar(diagonal, "the diagonal")
    return (torch.triu if node.get("upper", 1) else torch.tril)(tensor(x), offset)
