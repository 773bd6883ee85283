"""Zeros in place of cuts: unstructured sparsity, and N:M patterns that sparse kernels can use.

Shapes stay as they are. On a CPU with ONNX Runtime zeros make a file compress better, not a model run faster.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, fx, nn

from compresskit.errors import TargetError, UsageError

Masks = Mapping[str, Tensor]


def sparse_weights(module: fx.GraphModule) -> dict[str, Tensor]:
    """The weights that may become sparse: of convolutions and linear layers, by name. Biases and norms never do."""
    return {f"{name}.weight": leaf.weight for name, leaf in module.named_modules() if isinstance(leaf, nn.Linear | nn.modules.conv._ConvNd)}


def find_masks(module: fx.GraphModule, sparsity: float, pattern: str) -> dict[str, Tensor]:
    """Which weights stay, by magnitude: bool masks of the weights' shapes.

    Args:
        sparsity: removed fraction of all weights in `sparse_weights`, for "unstructured"; an N:M pattern fixes it at 1 - N/M.
        pattern: "unstructured": the smallest of all layers go (Han et al. 2015). "N:M": of every M weights that follow each other along
            the input dimension the N largest stay (Mishra et al. 2021); layers whose input is no multiple of M stay whole.

    Raises:
        UsageError: an unknown pattern, or a sparsity that is not the pattern's.
        TargetError: there is nothing to make sparse.
    """
    weights = sparse_weights(module)
    if not weights:
        raise TargetError("nothing can be made sparse: the model has no convolution and no linear layer")
    if pattern == "unstructured":
        return _unstructured(weights, sparsity)
    kept, size = _parse(pattern)
    if abs(sparsity - (1 - kept / size)) > 1e-6:
        raise UsageError(f"--pattern {pattern} removes {1 - kept / size:g} of the weights, not {sparsity:g}: give --sparsity {1 - kept / size:g}")
    masks = {name: _n_of_m(weight.detach(), kept, size) for name, weight in weights.items() if weight.shape[1] % size == 0}
    if not masks:
        raise TargetError(f"no layer can take pattern {pattern}: none has a multiple of {size} inputs")
    return masks


def apply_masks(module: fx.GraphModule, masks: Masks) -> None:
    """Set to zero, in place, what the masks leave out."""
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for name, mask in masks.items():
            parameters[name].mul_(mask.to(parameters[name].device))


def _unstructured(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    magnitudes = torch.cat([weight.detach().abs().flatten() for weight in weights.values()])
    stay = torch.ones_like(magnitudes, dtype=torch.bool)
    stay[magnitudes.argsort()[: round(sparsity * len(magnitudes))]] = False
    parts = stay.split([weight.numel() for weight in weights.values()])
    return {name: part.reshape(weight.shape) for (name, weight), part in zip(weights.items(), parts, strict=True)}


def _n_of_m(weight: Tensor, kept: int, size: int) -> Tensor:
    """(out, in, *kernel) to its mask; the M of a block are neighbours along `in`."""
    blocks = weight.abs().movedim(1, -1).unflatten(-1, (-1, size))
    mask = torch.zeros_like(blocks, dtype=torch.bool).scatter_(-1, blocks.topk(kept, dim=-1).indices, True)
    return mask.flatten(-2).movedim(-1, 1)


def _parse(pattern: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+):(\d+)", pattern)
    if not match or not 0 < int(match[1]) < int(match[2]):
        raise UsageError(f"--pattern takes unstructured or N:M with N below M (2:4), not {pattern!r}")
    return int(match[1]), int(match[2])
