"""Matrix products."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from compresskit.models.onnx_ops.values import Node, Value, op, operand, tensor

LINEAR = "linear"
"""What a Gemm or MatMul with a constant matrix becomes once its weight is stored as PyTorch stores it (not an ONNX name)."""


@op(LINEAR)
def linear(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Weight (out, in)."""
    return F.linear(x, weight, bias)


@op("MatMul")
def matmul(node: Node, a: Value, b: Value) -> Tensor:
    return torch.matmul(tensor(a), tensor(b))


@op("Gemm")
def gemm(node: Node, a: Value, b: Value, c: Value | None = None) -> Tensor:
    """alpha A B + beta C, A and B transposed where the node says so."""
    left, right = (tensor(value).t() if node.get(flag, 0) else tensor(value) for value, flag in ((a, "transA"), (b, "transB")))
    product = left @ right
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    if alpha != 1.0:
        product = alpha * product
    if c is None or beta == 0.0:
        return product
    return product + (operand(c, product) if beta == 1.0 else beta * tensor(c))


@op("Einsum")
def einsum(node: Node, *values: Value) -> Tensor:
    return torch.einsum(node.get("equation").replace(" ", ""), *(tensor(value) for value in values))
