"""Layers as products of two: the singular directions of a weight, and the graph in which some layers are factorized.

    y = W x + c     becomes     y = U (V x) + c'         U (out, rank), V (rank, in * kernel)

Where the covariance C of x is known, the directions are those of `W C^(1/2)`, so that the first r of them are the best r for the outputs
over the data, not for the weights (Denton et al. 2014, "Exploiting linear structure within convolutional networks", section 3.1.2).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.errors import InputError
from compresskit.models.graph import ModelGraph
from compresskit.pruning.compensation import RIDGE, Moments

INNER, OUTER = "inner", "outer"  # the parts of a factorized layer, under its name


@dataclass(frozen=True)
class Factors:
    """A weight as a sum over its directions, the strongest first.

    Attributes:
        left: (out, rank), and
        right: (rank, in, *kernel), so scaled that a direction has the same norm in both, and both train alike.
        energy: (rank,) the mean square of what each direction adds to the outputs.
    """

    left: Tensor
    right: Tensor
    energy: Tensor


def decompose(weight: Tensor, moments: Moments | None = None) -> Factors:
    """The singular directions of `weight` (out, in, *kernel), for inputs of these moments; None: for white ones.

    Raises:
        InputError: a weight or a moment is not finite.
    """
    matrix = weight.detach().flatten(1).double()
    covariance = None if moments is None else moments.covariance()
    if not matrix.isfinite().all() or (covariance is not None and not covariance.isfinite().all()):
        raise InputError("a layer cannot be factorized: its weights, or what reaches it, are not finite")
    root = None if covariance is None else _root(covariance)
    left, values, right = torch.linalg.svd(matrix if root is None else matrix @ root, full_matrices=False)
    scaled = values[:, None] * right
    if root is not None:
        scaled = torch.linalg.solve_triangular(root, scaled, upper=False, left=False)
    scale = scaled.norm(dim=1).sqrt().clamp(min=torch.finfo(torch.float32).tiny)
    balanced = (scaled / scale[:, None]).to(weight.dtype).reshape(-1, *weight.shape[1:])
    return Factors((left * scale).to(weight.dtype), balanced, values.square().float())


def _root(covariance: Tensor) -> Tensor:
    """A lower triangular L with L L^T = C, of a C that is kept from being singular."""
    ridge = RIDGE * covariance.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
    return torch.linalg.cholesky(covariance + ridge * torch.eye(len(covariance), dtype=covariance.dtype))


def factorize(graph: ModelGraph, ranks: Mapping[str, int], moments: Mapping[str, Moments]) -> ModelGraph:
    """`graph` with each layer in `ranks` as two, `name.inner` to that many channels and `name.outer` from them; `graph` is left as it was.

    Args:
        moments: of the inputs of layers; one that is missing is factorized for white inputs.

    Raises:
        InputError: a layer is not finite.
    """
    module = copy.deepcopy(graph.module)
    for node in list(module.graph.nodes):
        name = str(node.target)
        if node.op == "call_module" and name in ranks:
            parts = _parts(module.get_submodule(name), ranks[name], moments.get(name))
            owner, _, stem = name.rpartition(".")
            setattr(module.get_submodule(owner), stem, parts)
            with module.graph.inserting_before(node):
                inner = module.graph.call_module(f"{name}.{INNER}", node.args, node.kwargs)
                outer = module.graph.call_module(f"{name}.{OUTER}", (inner,))
            node.replace_all_uses_with(outer)
            module.graph.erase_node(node)
    module.graph.lint()
    module.recompile()
    return graph.with_module(module)


@torch.no_grad()
def _parts(layer: Any, rank: int, moments: Moments | None) -> nn.ModuleDict:
    """The two layers in place of one."""
    factors = decompose(layer.weight, moments)
    left, right = factors.left[:, :rank], factors.right[:rank]
    inner, outer = _blank(layer, rank)
    inner.weight.copy_(right)
    outer.weight.copy_(left.reshape(outer.weight.shape))
    if layer.bias is not None:
        outer.bias.copy_(layer.bias)
        if moments is not None:
            lost = layer.weight.flatten(1).double() - left.double() @ right.flatten(1).double()
            outer.bias.add_((lost @ moments.mean()).to(layer.bias.dtype))
    return nn.ModuleDict({INNER: inner.train(layer.training), OUTER: outer.train(layer.training)})


def _blank(layer: Any, rank: int) -> tuple[Any, Any]:
    options = {"dtype": layer.weight.dtype, "device": layer.weight.device}
    biased = layer.bias is not None
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, rank, bias=False, **options), nn.Linear(rank, layer.out_features, bias=biased, **options)
    settings = {key: getattr(layer, key) for key in ("stride", "padding", "dilation", "padding_mode")}
    inner = type(layer)(layer.in_channels, rank, layer.kernel_size, bias=False, **settings, **options)
    return inner, type(layer)(rank, layer.out_channels, 1, bias=biased, **options)
