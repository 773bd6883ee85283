"""How the scores of different groups are made comparable before channels compete across the model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from compresskit.registry import Registry

NORMALIZERS: Registry[Callable[[Tensor], Tensor]] = Registry("normalizer")


def normalize(scores: Tensor, how: str) -> Tensor:
    """Divide one group's (size,) scores by the scale that `how` names; infinite scores stay, and so does a group without a scale.

    Raises:
        UsageError: unknown `how`.
    """
    return scores / scale(scores, how)


def scale(scores: Tensor, how: str) -> Tensor:
    """What `normalize` divides (size,) scores by, a scalar: 1 where the finite ones have no scale above 0.

    Raises:
        UsageError: unknown `how`.
    """
    scale_of = NORMALIZERS[how]
    finite = scores[scores.isfinite()]
    found = scale_of(finite) if len(finite) else finite.sum()
    return torch.where(found > 0, found, 1.0)


@NORMALIZERS.register("none")
def _one(scores: Tensor) -> Tensor:
    return scores.new_ones(())


@NORMALIZERS.register("mean")
def _mean(scores: Tensor) -> Tensor:
    return scores.mean()


@NORMALIZERS.register("max")
def _max(scores: Tensor) -> Tensor:
    return scores.max()
