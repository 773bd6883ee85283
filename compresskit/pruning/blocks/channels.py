"""Channels: every width that can be cut."""

from __future__ import annotations

from compresskit.pruning.blocks.base import Opening, block
from compresskit.pruning.groups import Prunable


@block("channels")
def channels(prunable: Prunable) -> Opening:
    """Every width: channels, neurons, attention heads, `W diag(a)`."""
    return Opening(frozenset(range(len(prunable.groups))))
