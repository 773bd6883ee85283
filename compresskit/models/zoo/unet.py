"""U-Net (Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015), small: 16 to 128 channels.

Unlike the paper's: a quarter of the channels, one level fewer, batch norms, and padding, so that a class comes out for every pixel.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from compresskit.models.zoo.architecture import Naming, architecture, scaled
from compresskit.models.zoo.layers import activated, conv

_NAMING = Naming(stem="down.0.0.0.weight", head="head.weight", unit="down.0.0.0.weight")
_LEVELS = 4


def _pair(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(activated(conv(inputs, outputs, 3)), activated(conv(outputs, outputs, 3)))


class UNet(nn.Module):
    """Halves the image and doubles the channels level by level, then goes back up, joined at each level by what was there on the way down."""

    def __init__(self, unit: int, *, classes: int, in_channels: int) -> None:
        super().__init__()
        widths = [unit << level for level in range(_LEVELS)]
        steps = list(pairwise(widths))
        self.down = nn.ModuleList([_pair(in_channels, unit), *(_pair(narrow, wide) for narrow, wide in steps)])
        self.up = nn.ModuleList(activated(conv(wide, narrow, 3)) for narrow, wide in reversed(steps))
        self.join = nn.ModuleList(_pair(2 * narrow, narrow) for narrow, _ in reversed(steps))
        self.head = nn.Conv2d(unit, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, H, W) -> (N, classes, H, W): logits a pixel; H and W are multiples of 8."""
        levels = [self.down[0](x)]
        for down in self.down[1:]:
            levels.append(down(F.max_pool2d(levels[-1], 2)))
        result = levels.pop()
        for up, join in zip(self.up, self.join, strict=True):
            result = join(torch.cat([levels.pop(), up(F.interpolate(result, scale_factor=2.0))], dim=1))
        return self.head(result)


@architecture("unet", "U-Net, small (Ronneberger et al. 2015)", _NAMING)
def unet(*, classes: int = 10, in_channels: int = 3, width: float = 1.0) -> UNet:
    """Four levels with 16, 32, 64 and 128 channels; `classes` a pixel."""
    return UNet(scaled(16, width), classes=classes, in_channels=in_channels)
