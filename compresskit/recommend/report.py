"""What `recommend` says it found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from compresskit.errors import CompresskitError
from compresskit.report import CommandReport, ModelReport


@dataclass(frozen=True)
class Recommendation:
    """One setting.

    Attributes:
        pruner, quantizer, sparsity, bits: of the setting.
        compression: how many times fewer bits its parameters take.
        size: bytes of them.
        latency_ms: expected; None where it was not asked for.
        predicted, low, high: quality that is expected, and its 90% interval.
        real: as measured after carrying it out; None where it was not.
        real_compression: likewise.
    """

    pruner: str
    quantizer: str
    sparsity: float
    bits: int
    compression: float
    size: float
    latency_ms: float | None
    predicted: float
    low: float
    high: float
    real: float | None = None
    real_compression: float | None = None


@dataclass(frozen=True)
class Explained:
    """One feature of the predictor: its value here, its share of the gain, and what it adds to the first recommendation's retained part."""

    feature: str
    value: float | None
    gain: float
    shap: float


@dataclass(frozen=True, kw_only=True)
class RecommendReport(ModelReport):
    """What one `compresskit recommend` found.

    Attributes:
        metric: "top-1", "mean IOU" or "rmse".
        original: quality of the model as it is, on the samples that the features are from; None without data.
        constraints: as asked, by name.
        offered: settings that were ranked; `met`: that meet the constraints.
        recommended: the best first.
        nearest: known problems, the nearest first.
        unlike: whether the problem is unlike all of them.
        missing: features that could not be computed.
        bound: of Lemma 3.1 for the static strategy, for the number of problems and of settings.
    """

    predictor: str
    metric: str
    original: float | None
    constraints: dict[str, Any]
    offered: int
    met: int
    recommended: tuple[Recommendation, ...]
    nearest: tuple[str, ...]
    unlike: bool
    missing: tuple[str, ...]
    bound: float
    explained: tuple[Explained, ...] = ()


@dataclass(frozen=True)
class RecommendOutcome:
    """What a run gives back: as `PruneOutcome`, with the bytes of the applied model for stdout."""

    report: RecommendReport
    standard_output: bytes | None = None
    failure: CompresskitError | None = None


@dataclass(frozen=True, kw_only=True)
class TrainReport(CommandReport):
    """What one `compresskit recommend --train` did.

    Attributes:
        problems, trials: in the table.
        tried: of them new.
        failed: settings that could not be carried out, and why.
        ignored: rows of other schemas.
        metrics: of recommendations for architectures that a fit had not seen, by strategy; empty where there are too few.
    """

    problems: int
    trials: int
    tried: int
    failed: tuple[str, ...]
    ignored: int
    metrics: dict[str, dict[str, float | None]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class GenerateReport(CommandReport):
    """What one `compresskit recommend --generate` drew: `count` samples of `shape`."""

    shape: tuple[int, ...]
    count: int
