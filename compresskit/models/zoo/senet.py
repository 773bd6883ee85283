"""SE-ResNet-18 (Hu et al., "Squeeze-and-Excitation Networks", 2017), stem for CIFAR.

11,263,042 parameters at 10 classes. The form that is commonly published as SENet-18 norms and activates before each convolution and
has 11,260,354; here they come after it, as in the paper.
"""

from __future__ import annotations

from torch import nn

from compresskit.models.zoo.architecture import Naming, architecture, scaled
from compresskit.models.zoo.resnet import residual_network

_NAMING = Naming(stem="conv1.weight", head="fc.weight", unit="conv1.weight")
_REDUCTION = 16


@architecture("senet18", "SE-ResNet-18 (Hu et al. 2017)", _NAMING)
def senet18(*, classes: int = 10, in_channels: int = 3, width: float = 1.0) -> nn.Sequential:
    """ResNet-18 with a squeeze-and-excitation behind the two convolutions of every block."""
    blocks = (2, 2, 2, 2)
    return residual_network(scaled(64, width), blocks, classes=classes, in_channels=in_channels, shortcut="B", reduction=_REDUCTION)
