"""The reference architectures: one family a file, each builder registered by a decorator in `ARCHITECTURES`."""

from compresskit.models.zoo import (  # noqa: F401 (they register themselves)
    bert,
    densenet,
    dla,
    dpn,
    efficientnet,
    googlenet,
    mlp,
    mobilenet,
    mobilenet_v2,
    mobilenet_v3,
    regnet,
    resnet,
    resnext,
    senet,
    shufflenet_v2,
    tabular,
    unet,
    vgg,
    vit,
)
from compresskit.models.zoo.architecture import ARCHITECTURES, Architecture, build
from compresskit.models.zoo.match import Fit, build_for_state, fit, suggest

__all__ = ["ARCHITECTURES", "Architecture", "Fit", "build", "build_for_state", "fit", "suggest"]
