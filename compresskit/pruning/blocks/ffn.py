"""Hidden widths between linear layers: the MLP of a transformer's block."""

from __future__ import annotations

from torch import nn

from compresskit.pruning.blocks.base import Opening, block
from compresskit.pruning.blocks.heads import attended
from compresskit.pruning.groups import Group, Prunable


@block("ffn")
def ffn(prunable: Prunable) -> Opening:
    """Hidden widths of MLPs, as in transformers."""
    attention = attended(prunable)
    return Opening(frozenset(index for index, group in enumerate(prunable.groups) if index not in attention and _is_hidden(prunable, group)))


def _is_hidden(prunable: Prunable, group: Group) -> bool:
    """Whether linear layers make the channels, linear layers read them, and neither norm nor table of embeddings has a part in them."""
    module = prunable.graph.module
    layers = [module.get_submodule(piece.parameter.rpartition(".")[0]) for piece in group.slices if piece.role in ("out", "in")]
    plain = all(piece.role in ("out", "in", "bias") for piece in group.slices)
    return plain and any(piece.role == "in" for piece in group.slices) and all(isinstance(layer, nn.Linear) for layer in layers)
