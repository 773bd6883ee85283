"""Zeros in place of cuts: unstructured sparsity, and N:M patterns that sparse kernels can use.

Shapes stay as they are. On a CPU with ONNX Runtime zeros make a file compress better, not a model run faster.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, fx, nn

from compresskit.errors import TargetError
from compresskit.pruning.config import parse_pattern

_ConvNd, _ConvTransposeNd = nn.modules.conv._ConvNd, nn.modules.conv._ConvTransposeNd
Masks = Mapping[str, Tensor]


def sparse_weights(module: fx.GraphModule) -> dict[str, Tensor]:
    """The weights that may become sparse: of convolutions and linear layers, by name, each once. Biases and norms never do."""
    layers = [leaf for leaf in module.modules() if isinstance(leaf, nn.Linear | _ConvNd)]
    wanted = {id(layer.weight) for layer in layers}
    return {name: parameter for name, parameter in module.named_parameters() if id(parameter) in wanted}


def find_masks(module: fx.GraphModule, sparsity: float, pattern: str | None, scores: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Which weights stay: bool masks of the weights' shapes.

    Args:
        scores: of the weights, of their shapes, larger where one matters more; None: magnitudes.
        sparsity: removed fraction of all weights in `sparse_weights`, unstructured; an N:M pattern fixes it at 1 - N/M.
        pattern: None or "unstructured": the smallest of all layers go (Han et al. 2015). "N:M": of every M weights that follow each other along
            the input dimension the N largest stay (Mishra et al. 2021); layers whose input is no multiple of M stay whole.

    Raises:
        UsageError: an unknown pattern.
        TargetError: there is nothing to make sparse.
    """
    weights = sparse_weights(module)
    if not weights:
        raise TargetError("nothing can be made sparse: the model has no convolution and no linear layer")
    scores = scores or {name: weight.detach().abs() for name, weight in weights.items()}
    shape = None if pattern is None else parse_pattern(pattern)
    if shape is None:
        return _unstructured(scores, sparsity)
    kept, size = shape
    masks = {
        name: _n_of_m(score, input_dim(module, name), kept, size)
        for name, score in scores.items()
        if score.shape[input_dim(module, name)] % size == 0
    }
    if not masks:
        raise TargetError(f"no layer can take pattern {pattern}: none has a multiple of {size} inputs")
    return masks


def apply_masks(module: fx.GraphModule, masks: Masks) -> None:
    """Set to zero, in place, what the masks leave out."""
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for name, mask in masks.items():
            parameters[name].masked_fill_(~mask.to(parameters[name].device), 0.0)


def parted(values: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`values` (entries,) of several tensors one after the other, in the shapes of those."""
    parts = values.split([tensor.numel() for tensor in like.values()])
    return {name: part.reshape(tensor.shape) for (name, tensor), part in zip(like.items(), parts, strict=True)}


def _unstructured(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    values = torch.cat([score.flatten() for score in scores.values()])
    stay = torch.ones_like(values, dtype=torch.bool)
    stay[values.argsort()[: round(sparsity * len(values))]] = False
    return parted(stay, scores)


def input_dim(module: fx.GraphModule, name: str) -> int:
    """Where a weight has its inputs: (out, in, *kernel), but (in, out, *kernel) of a transposed convolution."""
    return 0 if isinstance(module.get_submodule(name.rpartition(".")[0]), _ConvTransposeNd) else 1


def _n_of_m(score: Tensor, dim: int, kept: int, size: int) -> Tensor:
    """The mask of a weight with these scores; the M of a block are neighbours along `dim`."""
    blocks = score.movedim(dim, -1).unflatten(-1, (-1, size))
    mask = torch.zeros_like(blocks, dtype=torch.bool).scatter_(-1, blocks.topk(kept, dim=-1).indices, True)
    return mask.flatten(-2).movedim(-1, dim)
