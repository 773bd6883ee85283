"""How many channels a mask keeps, said so that it has a gradient: one registered function a norm."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from compresskit.registry import Registry

TINY = 1e-30  # so that a mask of zeros counts none

Norm = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From |a|_1, |a|_2^2 and the length of each mask, (groups,) each, to its count; a mask of ones counts its length."""

NORMS: Registry[Norm] = Registry("norm")


@NORMS.register("l1l2")
def l1l2(sums: Tensor, squares: Tensor, sizes: Tensor) -> Tensor:
    """`sqrt(d) |a|_1 / |a|_2`: blind to the scale of a mask, which batch norm could undo (L1/L2 surrogates, equation 4)."""
    return sums * (sizes / (squares + TINY)).sqrt()


@NORMS.register("l1")
def l1(sums: Tensor, squares: Tensor, sizes: Tensor) -> Tensor:
    """`|a|_1`, what the paper compares with (equation 3)."""
    return sums
