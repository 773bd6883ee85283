"""Weights for a network that was cut before training: drawn anew, or brought back to the variance they were drawn with."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from math import sqrt

import torch
from torch import fx, nn

from compresskit.models.graph import ModelGraph

_ConvNd, _ConvTransposeNd = nn.modules.conv._ConvNd, nn.modules.conv._ConvTransposeNd


def reinit(graph: ModelGraph, seed: int) -> ModelGraph:
    """`graph` with the weights and statistics that each of its layers draws for itself; `graph` is left as it was.

    What is zero throughout, such as the last norm of a residual branch, is meant so and stays. Parameters outside layers, such as
    position embeddings, stay too: nothing says how they are drawn.
    """
    module = copy.deepcopy(graph.module)
    zero = [parameter for parameter in module.parameters() if not parameter.any()]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in module.modules():
            reset = getattr(part, "reset_parameters", None)
            if reset is not None:
                reset()
    with torch.no_grad():
        for parameter in zero:
            parameter.zero_()
    return graph.with_module(module)


def rescale(before: ModelGraph, after: ModelGraph) -> ModelGraph:
    """`after` with each layer's weights multiplied by sqrt(fan-out before / fan-out after); both graphs are left as they were.

    The thesis's section 3.2.1: it brings back the variance of He et al. (2015) in "fan out" mode. The fan-out of a unit is the number of
    products that it enters, so that a depthwise convolution keeps its own.

    Args:
        before: the network that `after` was cut from; its layers have the same names.
    """
    module = copy.deepcopy(after.module)
    fans = dict(_fan_outs(before.module))
    with torch.no_grad():
        for name, fan in _fan_outs(module):
            module.get_submodule(name).weight.mul_(sqrt(fans[name] / fan))  # type: ignore[operator]
    return after.with_module(module)


def _fan_outs(module: fx.GraphModule) -> Iterator[tuple[str, int]]:
    """Fan-out by name of every convolution and linear layer; a weight that several share comes once."""
    seen: set[int] = set()
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear | _ConvNd) and id(part.weight) not in seen:
            seen.add(id(part.weight))
            weight = part.weight
            kernel = weight[0, 0].numel()
            groups = part.groups if isinstance(part, _ConvNd) else 1
            outputs = weight.shape[1] if isinstance(part, _ConvTransposeNd) else weight.shape[0] // groups
            yield name, outputs * kernel
