"""Compress models and data files. The names below are imported when first used, so that `import compresskit` costs nothing."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compresskit.data import load_data as load_data
    from compresskit.models.checkpoint import save_checkpoint as save_checkpoint
    from compresskit.models.load import load_model as load_model
    from compresskit.models.onnx_out import export_onnx as export_onnx
    from compresskit.pruning.config import PruneConfig as PruneConfig
    from compresskit.pruning.config import Target as Target
    from compresskit.pruning.engine import PruneResult as PruneResult
    from compresskit.pruning.engine import prune as prune
    from compresskit.quantization.config import QuantizeConfig as QuantizeConfig
    from compresskit.quantization.engine import quantize as quantize
    from compresskit.quantization.quantized import Quantized as Quantized

_HOMES = {
    "PruneConfig": "compresskit.pruning.config",
    "PruneResult": "compresskit.pruning.engine",
    "QuantizeConfig": "compresskit.quantization.config",
    "Quantized": "compresskit.quantization.quantized",
    "Target": "compresskit.pruning.config",
    "export_onnx": "compresskit.models.onnx_out",
    "load_data": "compresskit.data",
    "load_model": "compresskit.models.load",
    "prune": "compresskit.pruning.engine",
    "quantize": "compresskit.quantization.engine",
    "save_checkpoint": "compresskit.models.checkpoint",
}

__all__ = [
    "PruneConfig",
    "PruneResult",
    "QuantizeConfig",
    "Quantized",
    "Target",
    "export_onnx",
    "load_data",
    "load_model",
    "prune",
    "quantize",
    "save_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'compresskit' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
