"""Which weights stay, and that no layer loses its last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx

from compresskit.errors import TargetError
from compresskit.pruning.groups import Prunable
from compresskit.pruning.sparsity import sparse_weights


@dataclass(frozen=True)
class Choice:
    """Which weights stay.

    Attributes:
        masks: bool, of the weights' shapes.
        rescued: layers that would have lost every weight, and keep their best one.
    """

    masks: dict[str, Tensor]
    rescued: tuple[str, ...]


def choose_weights(scores: Mapping[str, Tensor], kept: float) -> Choice:
    """Keep the fraction `kept` of all weights, those with the highest `scores` of all layers, and at least one a layer.

    Raises:
        TargetError: fewer weights would stay than there are layers.
    """
    flat = torch.cat([score.detach().flatten() for score in scores.values()])
    sizes = [score.numel() for score in scores.values()]
    count = round(kept * len(flat))
    if count < len(sizes):
        raise TargetError(f"{count} of {len(flat)} weights are too few for {len(sizes)} layers: keep at least one a layer")
    stay = _highest(flat, count).split(sizes)
    rescued = tuple(name.removesuffix(".weight") for name, part in zip(scores, stay, strict=True) if not part.any())
    if rescued:
        best = torch.stack([part.argmax() + start for part, start in zip(flat.split(sizes), np.cumsum([0, *sizes[:-1]]).tolist(), strict=True)])
        stay = _highest(flat.index_fill(0, best, torch.inf), count).split(sizes)
    return Choice({name: part.reshape(score.shape) for (name, score), part in zip(scores.items(), stay, strict=True)}, rescued)


def _highest(values: Tensor, count: int) -> Tensor:
    """(n,) bool: the `count` highest."""
    return torch.zeros_like(values, dtype=torch.bool).index_fill(0, values.topk(count, sorted=False).indices, True)


def narrowest(prunable: Prunable, keep: np.ndarray) -> tuple[str, ...]:
    """Names of the groups that are cut down to their last channel; `keep` is (classes,) bool."""
    return tuple(group.name for group, classes in zip(prunable.channels, prunable.classes, strict=False) if keep[classes].sum() == 1)


def share_of_weights(module: fx.GraphModule, count: float) -> float:
    """The fraction of all `sparse_weights` that stays where `count` parameters of `module` do: biases and norms always stay.

    Raises:
        TargetError: biases and norms alone are as many.
    """
    weights = sum(weight.numel() for weight in sparse_weights(module).values())
    others = sum(parameter.numel() for parameter in module.parameters()) - weights
    if count <= others:
        raise TargetError(f"{count:.0f} parameters are out of reach: {others} are biases and norms, which all stay; choose a larger target")
    return min(1.0, (count - others) / weights)
