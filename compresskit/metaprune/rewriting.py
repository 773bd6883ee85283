"""A metanetwork at work: the same network with other weights."""

from __future__ import annotations

import copy

import torch

from compresskit.metaprune.graph import layout_of
from compresskit.metaprune.memory import enough_memory
from compresskit.metaprune.network import Metanetwork, rewrite
from compresskit.models.graph import ModelGraph


@torch.no_grad()
def rewritten(graph: ModelGraph, metanetwork: Metanetwork) -> tuple[ModelGraph, tuple[str, ...]]:
    """`graph`, which stays as it is, as `metanetwork` rewrites it, and the parameters that it could not see, which stay as they were.

    Raises:
        InputError: memory runs out, or a node does not fit its inputs.
    """
    module = copy.deepcopy(graph.module)
    layout = layout_of(graph)
    parameters = dict(module.named_parameters())
    tensors = {**parameters, **dict(module.named_buffers())}
    with enough_memory(metanetwork, layout):
        new = rewrite(metanetwork, layout, tensors)
    for name, weight in new.items():
        parameters[name].copy_(weight)
    return graph.with_module(module), tuple(f"{skipped.group}: {skipped.reason}" for skipped in layout.skipped)
