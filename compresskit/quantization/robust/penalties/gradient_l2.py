"""The L2 norm of the gradient, which the thesis compares with."""

from __future__ import annotations

import torch
from torch import Tensor

from compresskit.quantization.robust.penalties.base import PENALTIES, Pass


@PENALTIES.register("l2")
def gradient_l2(run: Pass) -> Tensor:
    """Sum of ||dL/dw||_2 over the layers' weights, and of the samples' ||dL/dy||_2 over the activations (the thesis, section 4.2.3).

    It bounds what rounding does by sqrt(n) times as much as the L1 norm does, n numbers being rounded (appendix B.1).
    """
    weights, activations = run.gradients()
    norms = [_norm(gradient.flatten()) for gradient in weights]
    return torch.stack([*norms, *(_norm(gradient.flatten(1)).sum() for gradient in activations)]).sum()


def _norm(values: Tensor) -> Tensor:
    """Of the last axis; at 0 its gradient is 0, not NaN."""
    return torch.linalg.vector_norm(values, dim=-1)
