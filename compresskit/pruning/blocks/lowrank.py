"""Low rank: a layer as two thinner ones, `U diag(b) V` with a mask `b` on its singular directions."""

from __future__ import annotations

from typing import Any

from torch import nn

from compresskit.models.graph import leaf
from compresskit.pruning.blocks.base import Opening, block
from compresskit.pruning.groups import Prunable

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@block("lowrank")
def lowrank(prunable: Prunable) -> Opening:
    """Ranks of convolutions and linear layers, `U diag(b) V`.

    A convolution (out, in, *kernel) becomes one of that kernel to `rank` channels and one of kernel 1 from them: (in * kernel + out) * rank
    multiply-adds a position in place of in * kernel * out.
    """
    module = prunable.graph.module
    calls = [str(node.target) for node in module.graph.nodes if node.op == "call_module"]
    weights = [id(parameter) for _, parameter in module.named_parameters(remove_duplicate=False)]
    opening = Opening()
    for node in module.graph.nodes:
        if node.op != "call_module":
            continue
        name, layer = str(node.target), leaf(module, node)
        if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
            shared = calls.count(name) > 1 or weights.count(id(layer.weight)) > 1
            reason = "its weights are used more than once" if shared else _obstacle(layer)
            if reason is None:
                opening.ranks[name] = full_rank(layer)
            else:
                opening.closed[name] = reason
    return opening


def full_rank(layer: Any) -> int:
    """Directions of a layer's weight as a matrix (out, in * kernel)."""
    return min(len(layer.weight), layer.weight[0].numel())


def _obstacle(layer: Any) -> str | None:
    """Why a layer is not factorized, if it is not."""
    if isinstance(layer, nn.Linear) or (isinstance(layer, CONVOLUTIONS) and layer.groups == 1):
        out, into = layer.weight.shape[0], layer.weight[0].numel()
        return None if out + into < out * into else "its factors cost no less at any rank"
    return "a transposed convolution is not factorized" if layer.transposed else "a grouped convolution is not factorized"
