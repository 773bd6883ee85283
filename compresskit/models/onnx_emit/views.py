"""Reshapes, permutations, slices, joins and other movements of values."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch

from compresskit.models.onnx_emit.emitter import Emitter, UnsupportedError, handles
from compresskit.models.onnx_emit.values import Size, Value, onnx_dtype


@handles("aten.sym_size.int")
def sym_size(e: Emitter, x: Value, dim: int) -> str:
    axis = dim % x.rank
    return e.op("Shape", x, start=axis, end=axis + 1)


@handles(
    "aten.view.default", "aten.reshape.default", "aten._unsafe_view.default", "aten.unflatten.int", "aten.view_as.default", "aten.reshape_as.default"
)
@handles("aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims", "aten.unsqueeze.default")
def reshape(e: Emitter, x: Value, *args: Any) -> str:
    """Every one of these is a Reshape to the shape that the trace found."""
    return _reshaped(e, x)


@handles("aten.flatten.using_ints")
def flatten(e: Emitter, x: Value, start_dim: int = 0, end_dim: int = -1) -> str:
    if x.rank > 2 and start_dim % x.rank == 1 and end_dim % x.rank == x.rank - 1:
        return e.op("Flatten", x, axis=1)
    return _reshaped(e, x)


@handles("aten.permute.default")
def permute(e: Emitter, x: Value, dims: Sequence[int]) -> str:
    return e.op("Transpose", x, perm=[dim % x.rank for dim in dims])


@handles("aten.transpose.int", "aten.swapaxes.default", "aten.swapdims.default")
def transpose(e: Emitter, x: Value, dim0: int, dim1: int) -> str:
    order = list(range(x.rank))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return e.op("Transpose", x, perm=order)


@handles("aten.t.default", "aten.numpy_T.default", "aten.mT.default")
def t(e: Emitter, x: Value) -> str:
    return x.name if x.rank < 2 else transpose(e, x, -2, -1)


@handles("aten.movedim.int")
def movedim(e: Emitter, x: Value, source: int, destination: int) -> str:
    order = list(range(x.rank))
    axis = order.pop(source % x.rank)
    order.insert(destination % x.rank, axis)
    return e.op("Transpose", x, perm=order)


@handles("aten.chunk.default", "aten.split.Tensor", "aten.split_with_sizes.default", "aten.split.sizes", "aten.tensor_split.sections")
def split(e: Emitter, x: Value, sections: Any, dim: int = 0) -> Sequence[str]:
    sizes = [part.shape[dim] for part in e.traced[e.node]]
    if not all(isinstance(size, int) for size in sizes):
        raise UnsupportedError("a split of the batch")
    return e.op_many("Split", len(sizes), x, e.constant(sizes), axis=dim % x.rank)


@handles("aten.unbind.int")
def unbind(e: Emitter, x: Value, dim: int = 0) -> Sequence[str]:
    return [select(e, x, dim, index) for index in range(len(e.traced[e.node]))]


@handles("aten.select.int")
def select(e: Emitter, x: Value, dim: int, index: int | Size) -> str:
    if isinstance(index, Size):
        raise UnsupportedError("a selection by the batch size")
    return e.op("Gather", x, e.constant(index), axis=dim % x.rank)


@handles("aten.slice.Tensor")
def slice_(e: Emitter, x: Value, dim: int = 0, start: int | Size | None = None, end: int | Size | None = None, step: int = 1) -> str:
    first, last = 0 if start is None else start, sys.maxsize if end is None else end
    if first == 0 and last == sys.maxsize and step == 1:
        return x.name
    return e.op("Slice", x, e.shape([first]), e.shape([last]), e.constant([dim % x.rank]), e.constant([step]))


@handles("aten.narrow.default")
def narrow(e: Emitter, x: Value, dim: int, start: int, length: int) -> str:
    if not isinstance(start, int) or not isinstance(length, int):
        raise UnsupportedError("a narrow by the batch size")
    return slice_(e, x, dim, start, start + length)


@handles("aten.cat.default", "aten.concat.default")
def cat(e: Emitter, tensors: Sequence[Value], dim: int = 0) -> str:
    dtype = e.result.dtype
    parts = [e.cast(tensor, dtype) for tensor in tensors if tensor.shape != (0,)]  # torch lets an empty vector join anything
    return e.op("Concat", *parts, axis=dim % len(e.result.shape))


@handles("aten.stack.default")
def stack(e: Emitter, tensors: Sequence[Value], dim: int = 0) -> str:
    axis = dim % len(e.result.shape)
    parts = [e.op("Unsqueeze", e.cast(tensor, e.result.dtype), e.constant([axis])) for tensor in tensors]
    return e.op("Concat", *parts, axis=axis)


@handles("aten.expand.default")
def expand(e: Emitter, x: Value, size: Sequence[int | Size], *, implicit: bool = False) -> str:
    """ONNX broadcasts both ways, so 1 keeps a size as torch's -1 does."""
    if _same(x, e.result.shape):
        return x.name
    return e.op("Expand", x, e.shape([1 if entry == -1 else entry for entry in size]))


@handles("aten.expand_as.default")
def expand_as(e: Emitter, x: Value, other: Value) -> str:
    return x.name if _same(x, e.result.shape) else e.op("Expand", x, e.op("Shape", other))


@handles("aten.repeat.default")
def repeat(e: Emitter, x: Value, repeats: Sequence[int | Size]) -> str:
    missing = len(repeats) - x.rank
    source: Value | str = e.op("Unsqueeze", x, e.constant(list(range(missing)))) if missing else x
    return e.op("Tile", source, e.shape(repeats))


@handles("aten.index_select.default")
def index_select(e: Emitter, x: Value, dim: int, index: Value) -> str:
    return e.op("Gather", x, index, axis=dim % x.rank)


@handles("aten.index.Tensor")
def index_tensor(e: Emitter, x: Value, indices: Sequence[Value | None]) -> str:
    """Indexing by one tensor of integers, along one axis."""
    used = [(axis, index) for axis, index in enumerate(indices) if index is not None]
    if len(used) != 1 or used[0][1].dtype == torch.bool:
        raise UnsupportedError("indexing by a mask, or by several tensors at once")
    ((axis, index),) = used
    return e.op("Gather", x, index, axis=axis)


@handles("aten.gather.default")
def gather(e: Emitter, x: Value, dim: int, index: Value, *, sparse_grad: bool = False) -> str:
    return e.op("GatherElements", x, index, axis=dim % x.rank)


@handles("aten.flip.default")
def flip(e: Emitter, x: Value, dims: Sequence[int]) -> str:
    count = len(dims)
    axes = e.constant([dim % x.rank for dim in dims])
    return e.op("Slice", x, e.constant([-1] * count), e.constant([-sys.maxsize] * count), axes, e.constant([-1] * count))


@handles("aten.roll.default")
def roll(e: Emitter, x: Value, shifts: Sequence[int], dims: Sequence[int] = ()) -> str:
    """Each axis is cut at its shift and its halves change places."""
    if not dims:
        raise UnsupportedError("aten.roll of the flattened tensor")
    result = x.name
    for shift, dim in zip(shifts, dims, strict=True):
        size = x.shape[dim]
        if not isinstance(size, int):
            raise UnsupportedError("aten.roll along the batch")
        axis, cut = e.constant([dim % x.rank]), e.constant([(-shift) % size])
        tail = e.op("Slice", result, cut, e.constant([sys.maxsize]), axis)
        head = e.op("Slice", result, e.constant([0]), cut, axis)
        result = e.op("Concat", tail, head, axis=dim % x.rank)
    return result


@handles("aten.pixel_shuffle.default")
def pixel_shuffle(e: Emitter, x: Value, upscale_factor: int) -> str:
    return e.op("DepthToSpace", x, blocksize=upscale_factor, mode="CRD")


@handles("aten.channel_shuffle.default")
def channel_shuffle(e: Emitter, x: Value, groups: int) -> str:
    _, channels, *spatial = x.shape
    split_up = e.reshape(x, (x.shape[0], groups, int(channels) // groups, *spatial))  # type: ignore[arg-type]
    swapped = e.op("Transpose", split_up, perm=[0, 2, 1, *range(3, x.rank + 1)])
    return e.reshape(swapped, x.shape)


@handles("aten.full.default")
def full(e: Emitter, size: Sequence[int | Size], fill_value: float, **options: Any) -> str:
    return e.op("Expand", e.constant(fill_value, e.result.dtype), e.shape(size))


@handles("aten.zeros.default")
def zeros(e: Emitter, size: Sequence[int | Size], **options: Any) -> str:
    return full(e, size, 0)


@handles("aten.ones.default")
def ones(e: Emitter, size: Sequence[int | Size], **options: Any) -> str:
    return full(e, size, 1)


@handles("aten.full_like.default")
def full_like(e: Emitter, x: Value, fill_value: float, **options: Any) -> str:
    return e.op("Expand", e.constant(fill_value, e.result.dtype), e.op("Shape", x))


@handles("aten.zeros_like.default")
def zeros_like(e: Emitter, x: Value, **options: Any) -> str:
    return full_like(e, x, 0)


@handles("aten.ones_like.default")
def ones_like(e: Emitter, x: Value, **options: Any) -> str:
    return full_like(e, x, 1)


@handles("aten.arange.default", "aten.arange.start", "aten.arange.start_step")
def arange(e: Emitter, *bounds: int | Size, **options: Any) -> str:
    start, end, step = {1: (0, *bounds, 1), 2: (*bounds, 1), 3: bounds}[len(bounds)]
    scalars = [e.op("Squeeze", bound.name) if isinstance(bound, Size) else e.constant(bound) for bound in (start, end, step)]
    numbers = e.op("Range", *scalars)
    return numbers if e.result.dtype == torch.int64 else e.op("Cast", numbers, to=onnx_dtype(e.result.dtype))


def _reshaped(e: Emitter, x: Value) -> str:
    return x.name if _same(x, e.result.shape) else e.reshape(x, e.result.shape)


def _same(x: Value, shape: Sequence[Any]) -> bool:
    """Whether `x` certainly has `shape` already; None says that a size is not known, so it equals nothing."""
    return None not in x.shape and x.shape == tuple(shape)
