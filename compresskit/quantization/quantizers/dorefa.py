"""Weights squashed by tanh, activations clipped (Zhou et al. 2016, "DoReFa-Net", equation 9 and section 2.3).

    w = reach * tanh(v) / max |tanh(v)|        v: what is trained

The paper's weights reach to 1 and miss 0, for networks trained from scratch. Here they reach as far as the trained network's, 0 among them,
and v starts such that w is the trained weight. Activations are clipped to the range that calibration chose, where the paper has 0 to 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compresskit.quantization.grid import Grid
from compresskit.quantization.quantizers.base import QUANTIZERS, FakeQuant, Quantizer

_MOST = 2.0  # |v| at the start: tanh is not yet flat there
_TINY = 1e-30


class Squashed(FakeQuant):
    """Weights of a fixed reach: the largest of each slice that has a scale is as large as it was at the start.

    Attributes:
        reach: () or (C,) that largest weight.
    """

    reach: Tensor

    def __init__(self, grid: Grid, weight: Tensor) -> None:
        super().__init__(grid)
        self.register_buffer("reach", self._largest(weight.detach()))

    def carried(self, x: Tensor) -> Tensor:
        squashed = torch.tanh(x)
        return squashed * self.spread(self.reach / self._largest(squashed).clamp_min(_TINY), x)

    def start(self, x: Tensor) -> Tensor:
        # As large as the weights themselves, so that learning rates mean what they mean for those.
        shrunk = self.spread(torch.tanh(self.reach.clamp(max=_MOST)) / self.reach.clamp_min(_TINY), x)
        return torch.atanh(x * shrunk)

    def _largest(self, x: Tensor) -> Tensor:
        return x.abs().amax([axis for axis in range(x.ndim) if self.axis is None or axis != self.axis % x.ndim])


QUANTIZERS.register("dorefa")(Quantizer(weight=Squashed, activation=FakeQuant))
