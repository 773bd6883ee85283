"""Graph metanetworks (Liu et al., "Meta Pruning via Graph Metanetworks"): a network that rewrites networks so that they are easier to prune.

The names below are imported when first used, so that the command line can read the settings before anything heavy loads.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compresskit.metaprune.config import MetapruneConfig as MetapruneConfig
    from compresskit.metaprune.shipped import read_metanetwork as read_metanetwork
    from compresskit.metaprune.stages import MetapruneResult as MetapruneResult
    from compresskit.metaprune.stages import metaprune as metaprune

_HOMES = {
    "MetapruneConfig": "compresskit.metaprune.config",
    "MetapruneResult": "compresskit.metaprune.stages",
    "metaprune": "compresskit.metaprune.stages",
    "read_metanetwork": "compresskit.metaprune.shipped",
}

__all__ = ["MetapruneConfig", "MetapruneResult", "metaprune", "read_metanetwork"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'compresskit.metaprune' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
