"""What `quantize --robust` is asked to do. Free of torch, so that the command line can build it before anything heavy loads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from compresskit.errors import UsageError
from compresskit.recipes import TrainingSettings
from compresskit.requests import CompressRequest

# Said again here because the registry loads torch; a test holds the two together.
RobustMethod = Literal["l1", "l2", "dq", "none"]


@dataclass(frozen=True, kw_only=True)
class RobustConfig(TrainingSettings):
    """Settings of training a float model such that quantization harms it little.

    Attributes:
        method: a name in `compresskit.quantization.robust.penalties.PENALTIES`; "none": the same training without a penalty.
        strength: of the penalty, lambda in the thesis's equation 4.3; None: the largest that costs no accuracy on the validation split.
        max_drop: largest accuracy loss of the float model allowed on the test split, as a fraction; None: no guard.
    """

    method: RobustMethod = "l1"
    strength: float | None = None
    max_drop: float | None = None
    optimizer: Literal["sgd", "adamw"] = "adamw"  # gradients of penalties are of another size than the loss's

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strength is not None and not 0 < self.strength < float("inf"):
            raise UsageError(f"--strength takes a number above 0, not {self.strength:g}")
        if self.epochs == 0:
            raise UsageError("--robust trains: --epochs takes a number above 0")
        if self.method == "none" and self.strength is not None:
            raise UsageError("--strength is that of a penalty: leave it out, or choose --robust-method l1, l2 or dq")
        if self.distill:
            raise UsageError("--robust learns from labels: leave out --distill")
        if self.max_drop is not None and not 0 <= self.max_drop <= 1:
            raise UsageError(f"--max-drop takes a fraction from 0 to 1, not {self.max_drop:g}")


@dataclass(frozen=True)
class RobustRequest(CompressRequest):
    """One `compresskit quantize --robust` from file to files: what `compresskit.quantization.robust.pipeline.run` takes.

    Attributes:
        outputs: paths (suffix decides the format: .onnx, .pt, .safetensors) or "-" for ONNX bytes on stdout.
    """

    config: RobustConfig = RobustConfig()
    outputs: tuple[str, ...] = ()
