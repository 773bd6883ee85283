"""ONNX operators as PyTorch calls: one function an operator, filed under its ONNX name in `OPS`.

A handler takes the node and its inputs (None where an optional one is absent) and returns its output or a tuple of outputs.
It raises ValueError, or lets PyTorch raise, on anything that it cannot read exactly; the importer adds the node's name.
"""

from __future__ import annotations

from compresskit.models.onnx_ops import activation, convolution, elementwise, indexing, linear, normalization, pooling, reduction, resize, shaping
from compresskit.models.onnx_ops.values import OPS, Node, Value

__all__ = ["OPS", "Node", "Value", "activation", "convolution", "elementwise", "indexing", "linear", "normalization", "pooling"]
__all__ += ["reduction", "resize", "shaping"]
