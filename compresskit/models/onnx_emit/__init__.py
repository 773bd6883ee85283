"""ModelGraph to ONNX nodes: one small handler an operator, by family. Importing the package registers them all."""

from __future__ import annotations

from compresskit.models.onnx_emit import algebra, elementwise, layers, reductions, spatial, views
from compresskit.models.onnx_emit.emitter import OPSET, Emitted, UnsupportedError, emit
from compresskit.models.onnx_emit.fallback import export_with_torch, strip
from compresskit.models.onnx_emit.trace import BATCH, Dim, follows_batch
from compresskit.models.onnx_emit.values import onnx_dtype

__all__ = ["BATCH", "OPSET", "Dim", "Emitted", "UnsupportedError", "emit", "export_with_torch", "follows_batch", "onnx_dtype", "strip"]
__all__ += ["algebra", "elementwise", "layers", "reductions", "spatial", "views"]
