"""How the scores of different groups are made comparable before channels compete across the model."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from compresskit.registry import Registry

NORMALIZERS: Registry[Callable[[Tensor], Tensor]] = Registry("normalizer")


def normalize(scores: Tensor, how: str) -> Tensor:
    """Divide one group's (size,) scores by the scale that `how` names; infinite scores stay, and so does a group without a scale.

    Raises:
        UsageError: unknown `how`.
    """
    scale_of = NORMALIZERS[how]
    finite = scores[scores.isfinite()]
    scale = scale_of(finite) if len(finite) else finite.sum()
    return scores / scale if scale > 0 else scores


@NORMALIZERS.register("none")
def _one(scores: Tensor) -> Tensor:
    return scores.new_ones(())


@NORMALIZERS.register("mean")
def _mean(scores: Tensor) -> Tensor:
    return scores.mean()


@NORMALIZERS.register("max")
def _max(scores: Tensor) -> Tensor:
    return scores.max()
