"""Products of matrices, and attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from compresskit.models.onnx_emit.emitter import Emitter, UnsupportedError, handles
from compresskit.models.onnx_emit.values import Value


@handles("aten.matmul.default", "aten.mm.default", "aten.bmm.default", "aten.mv.default", "aten.dot.default")
def matmul(e: Emitter, x: Value, other: Value) -> str:
    return e.op("MatMul", x, other)


@handles("aten.addmm.default")
def addmm(e: Emitter, bias: Value, x: Value, other: Value, *, beta: float = 1, alpha: float = 1) -> str:
    return e.op("Gemm", x, other, bias, alpha=float(alpha), beta=float(beta))


@handles("aten.baddbmm.default")
def baddbmm(e: Emitter, bias: Value, x: Value, other: Value, *, beta: float = 1, alpha: float = 1) -> str:
    product, offset = e.op("MatMul", x, other), e.cast(bias, bias.dtype)
    if alpha != 1:
        product = e.op("Mul", product, e.constant(alpha, x.dtype))
    if beta != 1:
        offset = e.op("Mul", offset, e.constant(beta, x.dtype))
    return e.op("Add", product, offset)


@handles("aten.einsum.default")
def einsum(e: Emitter, equation: str, tensors: Sequence[Value], *, path: Any = None) -> str:
    return e.op("Einsum", *tensors, equation=equation)


@handles("aten.scaled_dot_product_attention.default")
def attention(
    e: Emitter,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> str:
    """softmax(q k^T / sqrt(d) + mask) v, written out. q, k, v: (..., length, d). https://arxiv.org/abs/1706.03762"""
    length, width = query.shape[-2:]
    if enable_gqa or not isinstance(width, int):
        raise UnsupportedError("grouped-query attention, or attention heads that follow the batch")
    order = [*range(key.rank - 2), key.rank - 1, key.rank - 2]
    scaled = e.op("Mul", query, e.constant(1 / math.sqrt(width) if scale is None else scale, query.dtype))
    scores = e.op("MatMul", scaled, e.op("Transpose", key, perm=order))
    if is_causal:
        if not isinstance(length, int) or not isinstance(key.shape[-2], int):
            raise UnsupportedError("causal attention over a length that follows the batch")
        future = torch.full((length, key.shape[-2]), -math.inf, dtype=query.dtype).triu(1)
        scores = e.op("Add", scores, e.initializer(future, "causal_mask"))
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = e.op("Where", attn_mask, scores, e.constant(-math.inf, query.dtype))
    elif attn_mask is not None:
        scores = e.op("Add", scores, attn_mask)
    return e.op("MatMul", e.op("Softmax", scores, axis=-1), value)


@handles("aten.rms_norm.default")
def rms_norm(e: Emitter, x: Value, normalized_shape: Sequence[int], weight: Value | None = None, eps: float | None = None) -> str:
    """x / sqrt(mean(x^2) + eps) * weight over the last axes. https://arxiv.org/abs/1910.07467"""
    axes = e.constant(list(range(-len(normalized_shape), 0)))
    epsilon = torch.finfo(x.dtype).eps if eps is None else eps
    power = e.op("Add", e.op("ReduceMean", e.op("Mul", x, x), axes, keepdims=1), e.constant(epsilon, x.dtype))
    normed = e.op("Div", x, e.op("Sqrt", power))
    return normed if weight is None else e.op("Mul", normed, weight)


@handles("RMSNorm")
def rms_norm_leaf(e: Emitter, module: Any, x: Value) -> str:
    return rms_norm(e, x, module.normalized_shape, e.parameter(module, "weight"), module.eps)
