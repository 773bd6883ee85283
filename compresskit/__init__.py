"""Compress models and data files. The names below are imported when first used, so that `import compresskit` costs nothing."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compresskit.models.load import load_model as load_model
    from compresskit.pruning.pipeline import run as prune

_HOMES = {
    "load_model": ("compresskit.models.load", "load_model"),
    "prune": ("compresskit.pruning.pipeline", "run"),
}

__all__ = ["load_model", "prune"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'compresskit' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
