"""ShuffleNetV2 (Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", 2018), stem for CIFAR."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from compresskit.models.zoo.architecture import Naming, architecture, scaled
from compresskit.models.zoo.layers import conv, depthwise, global_pool, named

_NAMING = Naming(stem="conv1.0.weight", head="fc.weight", unit="stage2.0.branch1.2.weight")
_REPEATS = (4, 8, 4)
_STEM, _LAST = 24, 1024
_BRANCHES = {"shufflenet_v2_x0_5": 24, "shufflenet_v2_x1_0": 58}  # channels of each half of the first stage: the paper's table 5


class ShuffleBlock(nn.Module):
    """Works on one half of the channels and keeps the other; with stride 2, works on all of them twice. Then interleaves the halves.

    Channels 0 1 2 | 3 4 5 become 0 3 1 4 2 5, so that the next block's halves hold some of either.
    """

    def __init__(self, inputs: int, branch: int, stride: int) -> None:
        super().__init__()
        self.branch1: nn.Module | None = None
        if stride != 1:
            self.branch1 = nn.Sequential(depthwise(inputs, stride=stride), nn.BatchNorm2d(inputs), *_pointwise(inputs, branch))
        self.branch2 = nn.Sequential(
            *_pointwise(inputs if stride != 1 else branch, branch),
            depthwise(branch, stride=stride),
            nn.BatchNorm2d(branch),
            *_pointwise(branch, branch),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) -> (N, 2 * branch, H / stride, W / stride), rounded up."""
        if self.branch1 is None:
            kept, worked = x.chunk(2, dim=1)
        else:
            kept, worked = self.branch1(x), x
        both = torch.cat([kept, self.branch2(worked)], dim=1)
        return both.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


def _pointwise(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return conv(inputs, outputs, 1), nn.BatchNorm2d(outputs), nn.ReLU()


def shufflenet_v2(branch: int, *, classes: int = 10, in_channels: int = 3, width: float = 1.0) -> nn.Sequential:
    """Three stages, each halving the image and doubling the channels; `width` scales them, not the stem's 24 and the last 1024."""
    branch = scaled(branch, width)
    stages: dict[str, nn.Module] = {}
    inputs = _STEM
    for index, repeats in enumerate(_REPEATS):
        stages[f"stage{index + 2}"] = nn.Sequential(
            ShuffleBlock(inputs, branch, stride=2), *(ShuffleBlock(2 * branch, branch, stride=1) for _ in range(repeats - 1))
        )
        inputs, branch = 2 * branch, 2 * branch
    stem = nn.Sequential(conv(in_channels, _STEM, 3), nn.BatchNorm2d(_STEM), nn.ReLU())
    return named(conv1=stem, **stages, conv5=nn.Sequential(*_pointwise(inputs, _LAST)), pool=global_pool(), fc=nn.Linear(_LAST, classes))


for _name, _branch in _BRANCHES.items():
    architecture(_name, "ShuffleNetV2 (Ma et al. 2018)", _NAMING)(partial(shufflenet_v2, _branch))
