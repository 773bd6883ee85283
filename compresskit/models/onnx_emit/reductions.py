"""Reductions, sorting and softmax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compresskit.models.onnx_emit.emitter import Emitter, UnsupportedError, handles
from compresskit.models.onnx_emit.values import Value

Axes = int | Sequence[int] | None


@handles("aten.mean.dim")
def mean(e: Emitter, x: Value, dim: Axes, keepdim: bool = False, *, dtype: Any = None) -> str:
    """The mean over all spatial axes is a global average pool: runtimes know it better, and quantizers too."""
    axes = _axes(dim, x.rank)
    if x.rank > 2 and sorted(axes) == list(range(2, x.rank)) and x.dtype == e.result.dtype:
        pooled = e.op("GlobalAveragePool", x)
        return pooled if keepdim else e.op("Flatten", pooled, axis=1)
    return _reduce(e, "ReduceMean", x, axes, keepdim)


@handles("aten.mean.default")
def mean_all(e: Emitter, x: Value, *, dtype: Any = None) -> str:
    return _reduce(e, "ReduceMean", x, _axes(None, x.rank), False)


@handles("aten.sum.dim_IntList")
def sum_(e: Emitter, x: Value, dim: Axes, keepdim: bool = False, *, dtype: Any = None) -> str:
    return _reduce(e, "ReduceSum", x, _axes(dim, x.rank), keepdim)


@handles("aten.sum.default")
def sum_all(e: Emitter, x: Value, *, dtype: Any = None) -> str:
    return _reduce(e, "ReduceSum", x, _axes(None, x.rank), False)


@handles("aten.amax.default")
def amax(e: Emitter, x: Value, dim: Axes = (), keepdim: bool = False) -> str:
    return _reduce(e, "ReduceMax", x, _axes(dim, x.rank), keepdim)


@handles("aten.amin.default")
def amin(e: Emitter, x: Value, dim: Axes = (), keepdim: bool = False) -> str:
    return _reduce(e, "ReduceMin", x, _axes(dim, x.rank), keepdim)


@handles("aten.logsumexp.default")
def logsumexp(e: Emitter, x: Value, dim: Axes, keepdim: bool = False) -> str:
    return _reduce(e, "ReduceLogSumExp", x, _axes(dim, x.rank), keepdim)


@handles("aten.max.dim")
def max_dim(e: Emitter, x: Value, dim: int, keepdim: bool = False) -> Sequence[str]:
    axis = dim % x.rank
    return [e.op("ReduceMax", x, e.constant([axis]), keepdims=int(keepdim)), e.op("ArgMax", x, axis=axis, keepdims=int(keepdim))]


@handles("aten.argmax.default")
def argmax(e: Emitter, x: Value, dim: int | None = None, keepdim: bool = False) -> str:
    if dim is None:
        raise UnsupportedError("aten.argmax over the flattened tensor")
    return e.op("ArgMax", x, axis=dim % x.rank, keepdims=int(keepdim))


@handles("aten.linalg_vector_norm.default")
def vector_norm(e: Emitter, x: Value, ord: float = 2, dim: Axes = None, keepdim: bool = False, *, dtype: Any = None) -> str:
    if ord not in (1, 2):
        raise UnsupportedError(f"a vector norm of order {ord}")
    return _reduce(e, f"ReduceL{int(ord)}", x, _axes(dim, x.rank), keepdim)


@handles("aten.var.correction")
def var(e: Emitter, x: Value, dim: Axes = None, *, correction: float | None = None, keepdim: bool = False) -> str:
    axes = _axes(dim, x.rank)
    count = 1
    for axis in axes:
        size = x.shape[axis]
        if not isinstance(size, int):
            raise UnsupportedError("a variance over the batch")
        count *= size
    centred = e.op("Sub", x, e.op("ReduceMean", x, e.constant(axes), keepdims=1))
    total = e.op("ReduceSumSquare", centred, e.constant(axes), keepdims=int(keepdim))
    return e.op("Div", total, e.constant(count - (1 if correction is None else correction), x.dtype))


@handles("aten.cumsum.default")
def cumsum(e: Emitter, x: Value, dim: int, *, dtype: Any = None) -> str:
    return e.op("CumSum", e.cast(x, e.result.dtype), e.constant(dim % x.rank))


@handles("aten.topk.default")
def topk(e: Emitter, x: Value, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Sequence[str]:
    return e.op_many("TopK", 2, x, e.constant([k]), axis=dim % x.rank, largest=int(largest), sorted=int(sorted))


@handles("aten.softmax.int")
def softmax(e: Emitter, x: Value, dim: int, dtype: Any = None) -> str:
    return e.op("Softmax", e.cast(x, e.result.dtype), axis=dim % x.rank)


@handles("aten.log_softmax.int")
def log_softmax(e: Emitter, x: Value, dim: int, dtype: Any = None) -> str:
    return e.op("LogSoftmax", e.cast(x, e.result.dtype), axis=dim % x.rank)


@handles("aten._softmax.default")
def softmax_internal(e: Emitter, x: Value, dim: int, half_to_float: bool) -> str:
    return softmax(e, x, dim)


@handles("aten._log_softmax.default")
def log_softmax_internal(e: Emitter, x: Value, dim: int, half_to_float: bool) -> str:
    return log_softmax(e, x, dim)


def _axes(dim: Axes, rank: int) -> list[int]:
    """The axes that a reduction names; none named means all."""
    if isinstance(dim, int):
        return [dim % rank]
    return [axis % rank for axis in dim] if dim else list(range(rank))


def _reduce(e: Emitter, kind: str, x: Value, axes: Sequence[int], keepdim: bool) -> str:
    return e.op(kind, e.cast(x, e.result.dtype), e.constant(axes), keepdims=int(keepdim))
