"""How tensors are rounded while a network is trained, one family a file."""

from compresskit.quantization.quantizers import dorefa, lsq, ste, uniform  # noqa: F401  (they register themselves)
from compresskit.quantization.quantizers.base import QUANTIZERS as QUANTIZERS
from compresskit.quantization.quantizers.base import FakeQuant as FakeQuant
from compresskit.quantization.quantizers.base import Quantizer as Quantizer
