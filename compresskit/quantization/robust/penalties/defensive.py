"""Layers that amplify nothing: Defensive Quantization, which the thesis compares with."""

from __future__ import annotations

import torch
from torch import Tensor

from compresskit.quantization.robust.penalties.base import PENALTIES, Pass


@PENALTIES.register("dq")
def defensive(run: Pass) -> Tensor:
    """Sum over the layers of ||W W' - I||^2, W being the kernel as a matrix with a row an output (Lin et al. 2019, section 4).

    All singular values are drawn towards 1, and with them the layers' Lipschitz constants (the thesis, appendix B.3).
    """
    return torch.stack([_deviation(weight.flatten(1)) for weight in run.weights]).sum()


def _deviation(rows: Tensor) -> Tensor:
    """||W'W - I||^2 over the shorter side of `rows`: the longer one has further singular values, all 0, which cannot change."""
    gram = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
    return (gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).square().sum()
