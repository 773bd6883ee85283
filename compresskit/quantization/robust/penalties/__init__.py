"""What is added to the loss so that rounding changes it little, one penalty a file."""

from compresskit.quantization.robust.penalties import defensive, gradient_l1, gradient_l2  # noqa: F401  (they register themselves)
from compresskit.quantization.robust.penalties.base import PENALTIES as PENALTIES
from compresskit.quantization.robust.penalties.base import Pass as Pass
from compresskit.quantization.robust.penalties.base import Penalty as Penalty
