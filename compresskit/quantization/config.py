"""What `quantize` is asked to do. Free of torch and numpy, so that the command line can build it before anything heavy loads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from compresskit.errors import UsageError
from compresskit.recipes import TrainingSettings
from compresskit.requests import CompressRequest

Method = Literal["ptq", "uniform", "ste", "dorefa", "lsq"]
Quantity = Literal["size", "bit-ops"]
METHODS: tuple[Method, ...] = ("ptq", "uniform", "ste", "dorefa", "lsq")
"""Said again here because the registry loads torch; a test holds the two together."""

FEWEST_BITS, MOST_BITS = 2, 16
MOST_INDEX_BITS = 8


@dataclass(frozen=True)
class QuantizeConfig(TrainingSettings):
    """Settings of one quantization, and of the training that goes with it; the defaults are what the benchmarks found best.

    Attributes:
        method: "ptq" (no training), or the quantizer to train with: a name in `compresskit.quantization.quantizers.QUANTIZERS`.
        weights, activations: bits, 2 to 16. Activations are quantized only where there are data to calibrate them on.
        edges: bits of the first and the last layer, of their weights and of what they read; None: as all others.
        size, bit_ops: the fraction of float32's bytes of weights, or bit operations, to reach by learning a width for each layer; None: `weights` for
            all. One of them at most.
        calibration: how ranges of activations are chosen: a name in `compresskit.quantization.ranges.METHODS`.
        samples: of the training split, to calibrate on.
        rounding: "nearest", or "learned" on the samples; "auto": learned for weights of 4 bits and less.
        equalize: "yes" or "no": channels of like range across layers before anything is rounded; "auto": where it lessens the noise on the samples.
        codebook: store weights, of 8 bits at most, as indices into numbers that k-means chose; activations stay float.
        sensitivity: measure what each layer loses by itself, on the validation split: one more evaluation a layer.
        reduce_range: give 8-bit weights 7 bits, for CPUs that add pairs of 8-bit products in 16 bits; None: if this CPU is one.
        max_drop: largest accuracy loss allowed on the test split, as a fraction; None: no guard.
        require_speedup: least ratio of the median times before and after; None: no guard.
    """

    weights: int = 8
    activations: int = 8
    method: Method = "ptq"
    edges: int | None = None
    size: float | None = None
    bit_ops: float | None = None
    calibration: str = "mse"
    samples: int = 256
    rounding: str = "auto"
    equalize: str = "auto"
    codebook: bool = False
    sensitivity: bool = False
    reduce_range: bool | None = None
    max_drop: float | None = None
    require_speedup: float | None = None
    # Rounding makes gradients of very different size: AdamW trains what SGD has no one rate for. Many small steps beat few large ones.
    batch_size: int = field(default=32, kw_only=True)
    optimizer: Literal["sgd", "adamw"] = field(default="adamw", kw_only=True)
    distill: float = field(default=0.9, kw_only=True)

    @property
    def trains(self) -> bool:
        """Whether weights are trained under quantization."""
        return self.method != "ptq" or self.target is not None

    @property
    def target(self) -> tuple[Quantity, float] | None:
        """What widths are learned for, and the fraction of it to reach."""
        if self.size is not None:
            return "size", self.size
        return None if self.bit_ops is None else ("bit-ops", self.bit_ops)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method not in METHODS:
            raise UsageError(f"unknown --method {self.method!r}: choose from {', '.join(METHODS)}")
        for name, bits in (("--weights", self.weights), ("--activations", self.activations), ("--edges", self.edges)):
            if bits is not None and not FEWEST_BITS <= bits <= MOST_BITS:
                raise UsageError(f"{name} takes {FEWEST_BITS} to {MOST_BITS} bits, not {bits}")
        if self.codebook and self.weights > MOST_INDEX_BITS:
            raise UsageError(f"--codebook takes weights of at most {MOST_INDEX_BITS} bits, not {self.weights}")
        if self.codebook and self.trains:
            raise UsageError(f"--codebook stores trained weights: it does not go with --method {self.method}")
        if self.size is not None and self.bit_ops is not None:
            raise UsageError("--size and --bit-ops contradict each other: give one target")
        if self.target is not None and not 0 < self.target[1] < 1:
            raise UsageError(f"--{self.target[0]} takes a fraction of what float32 takes, between 0 and 1, not {self.target[1]:g}")
        if self.samples < 1:
            raise UsageError(f"--samples takes 1 or more, not {self.samples}")
        if self.max_drop is not None and not 0 <= self.max_drop <= 1:
            raise UsageError(f"--max-drop takes a fraction from 0 to 1, not {self.max_drop:g}")
        if self.require_speedup is not None and not self.require_speedup > 0:
            raise UsageError(f"--require-speedup takes a ratio above 0 such as 1.2, not {self.require_speedup:g}")


@dataclass(frozen=True)
class QuantizeRequest(CompressRequest):
    """One `compresskit quantize` from file to files: what `compresskit.quantization.pipeline.run` takes.

    Attributes:
        outputs: paths of .onnx files, or "-" for the bytes on stdout.
    """

    config: QuantizeConfig = QuantizeConfig()
    outputs: tuple[str, ...] = ()
