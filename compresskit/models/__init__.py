"""Models in and out. The names below are imported when first used: torch and onnx cost seconds."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compresskit.models.checkpoint import load_checkpoint as load_checkpoint
    from compresskit.models.checkpoint import save_checkpoint as save_checkpoint
    from compresskit.models.graph import ModelGraph as ModelGraph
    from compresskit.models.graph import Normalization as Normalization
    from compresskit.models.graph import TensorSpec as TensorSpec
    from compresskit.models.lift import graph_from_module as graph_from_module
    from compresskit.models.load import load_model as load_model
    from compresskit.models.onnx_in import import_onnx as import_onnx
    from compresskit.models.onnx_out import export_onnx as export_onnx

_HOMES = {
    "ModelGraph": "graph",
    "Normalization": "graph",
    "TensorSpec": "graph",
    "export_onnx": "onnx_out",
    "graph_from_module": "lift",
    "import_onnx": "onnx_in",
    "load_checkpoint": "checkpoint",
    "load_model": "load",
    "save_checkpoint": "checkpoint",
}

__all__ = [
    "ModelGraph",
    "Normalization",
    "TensorSpec",
    "export_onnx",
    "graph_from_module",
    "import_onnx",
    "load_checkpoint",
    "load_model",
    "save_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'compresskit.models' has no attribute {name!r}")
    return getattr(importlib.import_module(f"compresskit.models.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
