"""Dual path network (Chen et al., "Dual Path Networks", 2017) with 92 layers, for CIFAR.

34,236,634 parameters at 10 classes, as commonly published for that form: norms behind convolutions, a 3x3 stem, stage 1 at stride 1.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from compresskit.models.zoo.architecture import Naming, architecture, scaled
from compresskit.models.zoo.layers import activated, conv, global_pool, named, normed

_NAMING = Naming(stem="stem.0.weight", head="classifier.weight", unit="stem.0.weight")
_UNIT = 8
_GROUPS = 4  # in units
# The paper's table 1 in units of 8 channels: of each stage the blocks, bottleneck channels, residual channels and dense channels a block.
_STAGES = ((3, 12, 32, 2), (4, 24, 64, 4), (20, 48, 128, 3), (3, 96, 256, 16))


class DualPathBlock(nn.Module):
    """A bottleneck whose first `residual` outputs are added to those that came in, and whose `dense` others are appended."""

    def __init__(self, inputs: int, hidden: int, residual: int, dense: int, groups: int, stride: int, *, first: bool) -> None:
        super().__init__()
        outputs = residual + dense
        self.body = nn.Sequential(
            activated(conv(inputs, hidden, 1)), activated(conv(hidden, hidden, 3, stride=stride, groups=groups)), normed(conv(hidden, outputs, 1))
        )
        self.shortcut = normed(conv(inputs, outputs, 1, stride=stride)) if first else nn.Identity()
        self.residual = residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) -> (N, channels + dense, H / stride, W / stride), where `channels` are those of the shortcut."""
        before, after = self.shortcut(x), self.body(x)
        added = before[:, : self.residual] + after[:, : self.residual]
        return F.relu(torch.cat([added, before[:, self.residual :], after[:, self.residual :]], dim=1))


@architecture("dpn92", "DPN-92 (Chen et al. 2017)", _NAMING)
def dpn92(*, classes: int = 10, in_channels: int = 3, width: float = 1.0) -> nn.Sequential:
    """Four stages; `width` scales the number of groups (32), not the channels of each (3 to 24)."""
    unit = scaled(_UNIT, width)
    inputs = _UNIT * unit
    stages: dict[str, nn.Module] = {"stem": activated(conv(in_channels, inputs, 3))}
    for index, (repeats, *factors) in enumerate(_STAGES):
        hidden, residual, dense = (factor * unit for factor in factors)
        blocks = []
        for repeat in range(repeats):
            stride = 2 if index and not repeat else 1
            blocks.append(DualPathBlock(inputs, hidden, residual, dense, _GROUPS * unit, stride, first=not repeat))
            inputs = residual + (repeat + 2) * dense
        stages[f"stage{index + 1}"] = nn.Sequential(*blocks)
    return named(**stages, pool=global_pool(), classifier=nn.Linear(inputs, classes))
