"""What `quantize` says it did, as data that turns into JSON and back."""

from __future__ import annotations

from dataclasses import dataclass

from compresskit.errors import CompresskitError
from compresskit.report import Accuracy, Latency, ModelReport, SearchPoint, Skipped, Target


@dataclass(frozen=True)
class Figures:
    """One model, measured.

    Attributes:
        bytes: of the ONNX file.
        accuracy: None when there were no data to measure it on.
    """

    bytes: int
    accuracy: Accuracy | None
    latency: Latency


@dataclass(frozen=True)
class LayerRow:
    """One layer with stored weights.

    Attributes:
        weight_bits: of each weight.
        rounding: "nearest"; "learned": not each weight at its best, but what the layer puts out; "codebook": to the nearest center.
        activation_bits: of what the layer puts out; None: float.
        low, high: the range that those bits are spread over.
        clipped: fraction of the calibration's outputs beyond it.
        weight_sqnr, activation_sqnr: signal to quantization noise [dB]; None where there is no noise, or nothing to measure it on.
        bytes_before, bytes_after: of weights and bias as stored, scales included.
        sensitivity: by how much accuracy falls (an error rises) on the validation split if only this layer is quantized; None: not measured.
    """

    name: str
    kind: str
    weight_bits: int
    rounding: str
    activation_bits: int | None
    low: float | None
    high: float | None
    clipped: float | None
    weight_sqnr: float | None
    activation_sqnr: float | None
    bytes_before: int
    bytes_after: int
    sensitivity: float | None = None


@dataclass(frozen=True)
class Integers:
    """ONNX Runtime's integers against a plain reference, node by node: how many, which fraction is equal, the largest difference in steps."""

    nodes: int
    compared: int
    equal: float
    worst: int


@dataclass(frozen=True, kw_only=True)
class QuantizeReport(ModelReport):
    """What one `quantize` did.

    Attributes:
        scheme: "W8A8", or "W8" for weights alone, or "W2-8A8" where layers have widths of their own.
        weights_are: "integers" that kernels compute with, "storage" that is turned into floats before every run, or "indices" into codebooks,
            which are storage too.
        activations_are: "integers", "simulated" (floats rounded to what integers would hold), or "float".
        equalized: whether channels were brought to like ranges across layers first.
        speedup: median time before / after.
        target, path: where widths were learned, for what, and how the search went.
        integers: None where nothing is computed in integers.
    """

    scheme: str
    weights_are: str
    activations_are: str
    before: Figures
    after: Figures
    speedup: float
    layers: tuple[LayerRow, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    equalized: bool = False
    integers: Integers | None = None
    target: Target | None = None
    path: tuple[SearchPoint, ...] = ()


@dataclass(frozen=True)
class QuantizeOutcome:
    """What a run gives back.

    Attributes:
        standard_output: the ONNX bytes that belong on stdout, where "-" was among the outputs.
        failure: a guard that failed; the model is written all the same.
    """

    report: QuantizeReport
    standard_output: bytes | None = None
    failure: CompresskitError | None = None
