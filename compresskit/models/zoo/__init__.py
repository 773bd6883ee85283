"""The reference architectures: one family a file, each builder registered by a decorator in `ARCHITECTURES`."""

from compresskit.models.zoo import densenet, mlp, mobilenet_v2, resnet, shufflenet_v2, vgg, vit  # noqa: F401 (they register themselves)
from compresskit.models.zoo.architecture import ARCHITECTURES, Architecture, build
from compresskit.models.zoo.match import Fit, build_for_state, fit, suggest

__all__ = ["ARCHITECTURES", "Architecture", "Fit", "build", "build_for_state", "fit", "suggest"]
