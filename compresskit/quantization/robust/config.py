"""What `quantize --robust` is asked to do. Free of torch, so that the command line can build it before anything heavy loads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from compresskit.errors import UsageError
from compresskit.requests import CompressRequest

# Said again here because the registry loads torch; a test holds the two together.
RobustMethod = Literal["l1", "l2", "dq", "none"]


@dataclass(frozen=True)
class RobustConfig:
    """Settings of training a float model such that quantization harms it little.

    Attributes:
        method: a name in `compresskit.quantization.robust.penalties.PENALTIES`; "none": the same training without a penalty.
        strength: of the penalty, lambda in the thesis's equation 4.3; None: the largest that costs no accuracy on the validation split.
        epochs: training passes in all; the penalty acts in the last 15 at most (the thesis, section 4.3.1).
        learning_rate: peak learning rate, of AdamW.
        max_drop: largest accuracy loss of the float model allowed on the test split, as a fraction; None: no guard.
    """

    method: RobustMethod = "l1"
    strength: float | None = None
    epochs: float = 5.0
    batch_size: int = 128
    learning_rate: float = 2e-4
    label_smoothing: float = 0.0
    augment: Literal["auto", "none", "crop-flip"] = "auto"
    max_drop: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.strength is not None and not 0 < self.strength < float("inf"):
            raise UsageError(f"--strength takes a number above 0, not {self.strength:g}")
        if not 0 < self.epochs < float("inf"):
            raise UsageError(f"--robust trains: --epochs takes a number above 0, not {self.epochs:g}")
        if self.method == "none" and self.strength is not None:
            raise UsageError("--strength is that of a penalty: leave it out, or choose --robust-method l1, l2 or dq")


@dataclass(frozen=True)
class RobustRequest(CompressRequest):
    """One `compresskit quantize --robust` from file to files: what `compresskit.quantization.robust.pipeline.run` takes.

    Attributes:
        outputs: paths (suffix decides the format: .onnx, .pt, .safetensors) or "-" for ONNX bytes on stdout.
    """

    config: RobustConfig = RobustConfig()
    outputs: tuple[str, ...] = ()
