"""A metanetwork at work: the same network with other weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

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
    with enough_memory(metanetwork, layout):
        new = rewrite(metanetwork, layout, named_tensors(module))
    for name, parameter in parameters.items():
        if name in new:
            parameter.copy_(new[name])
    return graph.with_module(module), tuple(f"{skipped.group}: {skipped.reason}" for skipped in layout.skipped)


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers under each of their names, without gradients."""
    named = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    return {name: tensor.detach() for name, tensor in named}
