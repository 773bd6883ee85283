"""Cutting: a smaller graph from a choice of classes, and the proof that it computes what it should."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from compresskit.models.graph import ModelGraph
from compresskit.pruning.coupling import Coupling
from compresskit.pruning.rewrite import rewrite_constants

Keep = np.ndarray  # (classes,) bool: which classes stay

TOLERANCE = 1e-4  # of the largest output: float32 sums in another order


def cut(graph: ModelGraph, coupling: Coupling, keep: Keep) -> ModelGraph:
    """`graph` without the positions of the classes that do not stay; `graph` itself is left as it was."""
    module = copy.deepcopy(graph.module)
    made: dict[int, torch.Tensor] = {}
    for name, dims in coupling.tensors.items():
        owner, _, stem = name.rpartition(".")
        parent = module.get_submodule(owner)
        old = getattr(parent, stem)
        if id(old) not in made:
            made[id(old)] = _narrowed(old, [None if labels is None else keep[labels] for labels in dims])
        setattr(parent, stem, made[id(old)])
    for node in module.graph.nodes:
        if node.op == "call_module":
            _set_widths(module.get_submodule(str(node.target)))
    rewrite_constants(module, graph, coupling, keep)
    return graph.with_module(module)


def zeroed(graph: ModelGraph, coupling: Coupling, keep: Keep) -> ModelGraph:
    """`graph` at its full size with the parameters of the classes that do not stay set to zero: the reference for `cut`."""
    module = copy.deepcopy(graph.module)
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for name, dims in coupling.tensors.items():
            for dim, labels in enumerate(dims):
                if labels is not None and name in parameters:
                    gone = torch.from_numpy(np.flatnonzero(~keep[labels]))
                    parameters[name].index_fill_(dim, gone, 0)
    return graph.with_module(module)


def disagreement(graph: ModelGraph, coupling: Coupling, keep: Keep, smaller: ModelGraph) -> float:
    """Largest difference between `smaller` and the zeroed `graph` on random inputs, as a multiple of the largest output."""
    inputs = graph.example(2 if graph.free_batch else 1)
    with torch.no_grad():
        wanted = _results(zeroed(graph, coupling, keep).module.eval()(*inputs))
        got = _results(smaller.module.eval()(*inputs))
    worst = 0.0
    for one, two in zip(wanted, got, strict=True):
        if one.shape != two.shape:
            return float("inf")
        scale = max(float(one.abs().max()), 1e-6) if one.numel() else 1.0
        difference = float((one.double() - two.double()).abs().max()) / scale if one.numel() else 0.0
        worst = max(worst, difference if np.isfinite(difference) else float("inf"))
    return worst


def _results(value: Any) -> list[torch.Tensor]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _narrowed(tensor: torch.Tensor, masks: list[np.ndarray | None]) -> torch.Tensor:
    data = tensor.detach()
    for dim, mask in enumerate(masks):
        if mask is not None and not mask.all():
            data = data.index_select(dim, torch.from_numpy(np.flatnonzero(mask)).to(data.device))
    if data.shape == tensor.shape:
        return tensor
    return nn.Parameter(data.clone(), requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else data.clone()


def _set_widths(module: nn.Module) -> None:
    """Bring a leaf's own account of its widths in line with its weight."""
    leaf: Any = module
    weight: Any = getattr(leaf, "weight", None)
    if isinstance(leaf, nn.modules.conv._ConvNd):
        if leaf.groups == leaf.in_channels > 1:  # depthwise: each group is a channel
            leaf.groups = weight.shape[0] * leaf.in_channels // (leaf.in_channels if leaf.transposed else leaf.out_channels)
        out, into = (weight.shape[1] * leaf.groups, weight.shape[0]) if leaf.transposed else (weight.shape[0], weight.shape[1] * leaf.groups)
        leaf.out_channels, leaf.in_channels = out, into
    elif isinstance(leaf, nn.Linear):
        leaf.out_features, leaf.in_features = weight.shape
    elif isinstance(leaf, nn.Embedding):
        leaf.num_embeddings, leaf.embedding_dim = weight.shape
    elif hasattr(leaf, "num_features"):
        leaf.num_features = leaf.running_mean.shape[0]
    elif isinstance(leaf, nn.PReLU):
        leaf.num_parameters = weight.shape[0]


def widths(module: fx.GraphModule) -> dict[str, int]:
    """Output channels (or features) of every convolution and linear layer, by name."""
    found: dict[str, int] = {}
    for node in module.graph.nodes:
        if node.op == "call_module":
            leaf: Any = module.get_submodule(str(node.target))
            width = getattr(leaf, "out_channels", getattr(leaf, "out_features", None))
            if width is not None:
                found[str(node.target)] = width
    return found
