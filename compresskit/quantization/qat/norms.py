"""Batch norms in networks whose norms were folded away: while weights are rounded, statistics shift, and norms follow.

    y = gain * (conv(x, Q(w)) + b - mean) / deviation + offset

A norm begins as the identity: its gain and offset are the deviation and mean of what the layer makes of real data. Scales of weights run along
their output channels, so that a gain folds into scales and weights without changing an integer: training sees the weights that will be emitted
(which Krishnamoorthi 2018, section 3.2.2, corrects for by hand).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from onnx import NodeProto
from torch import Tensor, nn

from compresskit.models.leaves import BatchNorm
from compresskit.quantization.layers import Layer, find_layers
from compresskit.quantization.network import Network
from compresskit.quantization.plan import Plan
from compresskit.quantization.qat.network import TrainableNetwork
from compresskit.training.evaluation import evaluating

MOMENTUM = 0.1


def with_biases(network: Network) -> Network:
    """The same network with biases of 0 where convolutions have none, for a norm to fold into."""
    bare = {layer.output: layer for layer in find_layers(network) if layer.node.op_type == "Conv" and layer.bias is None}
    added = {_bias_of(name): np.zeros(len(network.constants[layer.weight]), np.float32) for name, layer in bare.items()}
    return network.edited([_with_bias(node) if node.output and node.output[0] in bare else node for node in network.nodes], added)


def make_norms(network: Network, plan: Plan) -> dict[str, BatchNorm]:
    """A norm for each convolution that shares its weights and bias with no other, by its output; `settle` makes it the identity."""
    uses = Counter(name for layer in plan.layers for name in (layer.weight, layer.bias))
    alone = [layer for layer in plan.layers if layer.node.op_type == "Conv" and uses[layer.weight] == uses[layer.bias] == 1]
    return {layer.output: BatchNorm(len(network.constants[layer.weight]), momentum=MOMENTUM) for layer in alone}


@torch.no_grad()
def settle(module: TrainableNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Take the norms' statistics from `batches`, and gains and offsets such that the norms change nothing."""
    norms = [norm for norm in module.norms.values() if isinstance(norm, BatchNorm)]
    moments = {norm: torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in norms}

    def watch(norm: nn.Module, inputs: tuple[Tensor, ...], _: Any) -> Tensor:
        x = inputs[0].transpose(0, 1).flatten(1).double()
        moments[norm] += torch.stack([torch.full_like(x[:, 0], x.shape[1]), x.sum(1), x.square().sum(1)]).cpu()  # type: ignore[index]
        return inputs[0]

    hooks = [norm.register_forward_hook(watch) for norm in norms]
    try:
        with evaluating(module):
            for x, _ in batches:
                module(x)
    finally:
        for hook in hooks:
            hook.remove()
    for norm in norms:
        count, total, squares = moments[norm]
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min(0)
        for target, values in (
            (norm.running_mean, mean),
            (norm.running_var, variance),
            (norm.weight, (variance + norm.eps).sqrt()),
            (norm.bias, mean),
        ):
            target.copy_(values)  # type: ignore[union-attr]


def affine(module: TrainableNetwork, layer: Layer) -> tuple[Tensor, Tensor] | None:
    """(C,) gain and shift, float64, of the norm behind a layer, by its running statistics; None where there is none."""
    norm = module.norm(layer.output)
    if not isinstance(norm, BatchNorm) or norm.running_mean is None or norm.running_var is None:
        return None
    gain = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    return gain, norm.bias.detach().double() - norm.running_mean.double() * gain


def _bias_of(output: str) -> str:
    return f"{output}_bias"


def _with_bias(node: NodeProto) -> NodeProto:
    changed = NodeProto()
    changed.CopyFrom(node)
    changed.input[:] = [*node.input[:2], _bias_of(node.output[0])]
    return changed
