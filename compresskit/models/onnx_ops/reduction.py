"""Reductions over axes, and positions of extremes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compresskit.models.onnx_ops.values import Node, Value, axis_of, op, pack, scalar, sizes, tensor

_Reduction = Callable[[Tensor, list[int], bool], Tensor]


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = torch.prod(x, dim=axis, keepdim=keep)
    return x


# name: (opset from which the axes are an input, on tensors, on host arrays)
_REDUCTIONS: Mapping[str, tuple[int, _Reduction, Callable[..., Any] | None]] = {
    "ReduceMean": (18, lambda x, axes, keep: x.mean(dim=axes, keepdim=keep), None),
    "ReduceSum": (13, lambda x, axes, keep: x.sum(dim=axes, keepdim=keep), np.sum),
    "ReduceMax": (18, lambda x, axes, keep: x.amax(dim=axes, keepdim=keep), np.max),
    "ReduceMin": (18, lambda x, axes, keep: x.amin(dim=axes, keepdim=keep), np.min),
    "ReduceProd": (18, _product, np.prod),
    "ReduceL1": (18, lambda x, axes, keep: x.abs().sum(dim=axes, keepdim=keep), None),
    "ReduceL2": (18, lambda x, axes, keep: torch.linalg.vector_norm(x, 2, dim=axes, keepdim=keep), None),
    "ReduceSumSquare": (18, lambda x, axes, keep: x.square().sum(dim=axes, keepdim=keep), None),
    "ReduceLogSum": (18, lambda x, axes, keep: x.sum(dim=axes, keepdim=keep).log(), None),
    "ReduceLogSumExp": (18, lambda x, axes, keep: torch.logsumexp(x, dim=axes, keepdim=keep), None),
}


def _reduce(since: int, on_tensors: _Reduction, on_host: Callable[..., Any] | None, node: Node, x: Value, axes: Value | None = None) -> Value:
    chosen = node.get("axes") if node.opset < since else None if axes is None else sizes(axes, "axes")
    if not chosen and node.get("noop_with_empty_axes", 0):
        if node.op not in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"):
            raise ValueError("noop_with_empty_axes is not supported")
        return x
    dims = [axis_of(axis, x.ndim) for axis in chosen] if chosen else list(range(x.ndim))
    keep = bool(node.get("keepdims", 1))
    if isinstance(x, np.ndarray) and on_host is not None:
        return pack(on_host(x, axis=tuple(dims), keepdims=keep), x.dtype)
    return on_tensors(tensor(x), dims, keep) if dims else tensor(x)


for _name, _functions in _REDUCTIONS.items():
    op(_name)(functools.partial(_reduce, *_functions))


def _position(function: Callable[..., Tensor], node: Node, x: Tensor) -> Tensor:
    if node.get("select_last_index", 0):
        raise ValueError("select_last_index is not supported")
    return function(x, dim=axis_of(node.get("axis", 0), x.ndim), keepdim=bool(node.get("keepdims", 1)))


op("ArgMax")(functools.partial(_position, torch.argmax))
op("ArgMin")(functools.partial(_position, torch.argmin))


@op("TopK")
def top_k(node: Node, x: Tensor, k: Value | None = None) -> tuple[Tensor, Tensor]:
    count = node.get("k") if k is None else scalar(k, "k")
    axis = axis_of(node.get("axis", -1), x.ndim)
    values, positions = torch.topk(x, count, dim=axis, largest=bool(node.get("largest", 1)), sorted=bool(node.get("sorted", 1)))
    return values, positions


@op("CumSum")
def cumulative_sum(node: Node, x: Tensor, axis: Value) -> Tensor:
    if node.get("exclusive", 0) or node.get("reverse", 0):
        raise ValueError("exclusive and reverse are not supported")
    return torch.cumsum(x, dim=axis_of(scalar(axis, "axis"), x.ndim))
