"""How the range of an activation is chosen from its statistics, one family a file."""

from compresskit.quantization.ranges import entropy, extremes, mse, percentile  # noqa: F401  (they register themselves)
from compresskit.quantization.ranges.base import METHODS as METHODS
from compresskit.quantization.ranges.base import Range as Range
