"""The L1 norm of the gradient: what rounding can do to the loss at most, to first order."""

from __future__ import annotations

import torch
from torch import Tensor

from compresskit.quantization.robust.penalties.base import PENALTIES, Pass


@PENALTIES.register("l1")
def gradient_l1(run: Pass) -> Tensor:
    """Sum of |dL/dw| and |dL/dy| over all weights and activations (the thesis, equation 4.3).

    No change of them by at most d each changes the loss by more than d times this, to first order (equation 4.2), whatever d is: hence
    robustness at every number of bits. Of activations it is the mean of the samples' norms, as the loss is the mean of theirs.
    """
    weights, activations = run.gradients()
    return torch.stack([gradient.abs().sum() for gradient in (*weights, *activations)]).sum()
