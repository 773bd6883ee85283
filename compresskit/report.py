"""Reports: what commands did, as frozen data that turns into JSON and back without loss.

JsonReport ──► CommandReport ──► ModelReport ──► Report (of prune), QuantizeReport, ...
JSON           any command       on a model
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from compresskit import runtime
from compresskit.json_report import JsonReport


@dataclass(frozen=True)
class ModelInput:
    """One input of the model; None in `shape` is a size that the file leaves open."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class ModelInfo:
    """Which model it was: where it came from, what built it (where known), what it takes."""

    source: str
    arch: str | None
    inputs: tuple[ModelInput, ...]


@dataclass(frozen=True)
class Target:
    """What was asked for and what came out, both in `unit`.

    Attributes:
        kind: the option without its dashes: "flops", "params", "size", "latency", "sparsity".
        unit: "fraction" (kept, or removed for sparsity), "MACs", "parameters", "bytes" or "ms".
    """

    kind: str
    requested: float
    reached: float
    unit: str = "fraction"


@dataclass(frozen=True)
class Accuracy:
    """A proportion in 0..1 with its 95% interval, over `count` samples that took no part in any choice.

    For numbers ("rmse") the value is the root mean squared error, without an interval.
    """

    value: float
    low: float | None
    high: float | None
    count: int
    metric: str = "top-1"

    @property
    def is_error(self) -> bool:
        """Whether less is better."""
        return self.metric == "rmse"

    @property
    def merit(self) -> float:
        """The value, or minus an error: more is better."""
        return -self.value if self.is_error else self.value


@dataclass(frozen=True)
class Latency:
    """Time of one inference in ONNX Runtime, milliseconds: median and 90th percentile."""

    p50_ms: float
    p90_ms: float
    threads: int
    batch: int


@dataclass(frozen=True)
class Training:
    """What training a model costs, by a few steps of it.

    Attributes:
        epoch_seconds: for the steps of an epoch, without validation; of processor time where one thread of a CPU computes.
        peak_bytes: the most that tensors hold at once: weights, gradients, the optimizer's state and activations.
        batch: samples a step.
    """

    epoch_seconds: float
    peak_bytes: int
    batch: int


@dataclass(frozen=True)
class Measure:
    """One model, measured.

    Attributes:
        macs: multiply-accumulates of one sample.
        parameters: their number.
        bytes: of the parameters and buffers as stored.
        peak_activation_bytes: of one sample.
        nonzero: parameters that are not zero, where the command makes zeros.
        accuracy: None when there were no data to measure it on.
        latency: None when it was not measured.
        training: likewise.
    """

    macs: int
    parameters: int
    bytes: int
    peak_activation_bytes: int
    nonzero: int | None = None
    accuracy: Accuracy | None = None
    latency: Latency | None = None
    training: Training | None = None


@dataclass(frozen=True)
class LayerRow:
    """One layer: output channels (or features) and multiply-accumulates before and after; `rank` where it became two layers, between them."""

    name: str
    kind: str
    width_before: int
    width_after: int
    macs_before: int
    macs_after: int
    rank: int | None = None


@dataclass(frozen=True)
class Skipped:
    """A group of coupled layers that was left whole, and why."""

    group: str
    reason: str


@dataclass(frozen=True)
class SearchPoint:
    """Where a search for widths stood.

    Attributes:
        done: fraction of the search.
        surrogate: what was minimised in place of the cost, as a fraction of the whole model's.
        cost: of the channels that were alive, likewise.
        multiplier: of the surrogate in what was minimised.
    """

    done: float
    surrogate: float
    cost: float
    multiplier: float


@dataclass(frozen=True)
class LatencyTry:
    """One cut of a search for a latency, in milliseconds: the limit that it was made for, what was predicted for it, and what it took."""

    limit: float
    predicted: float
    measured: float


@dataclass(frozen=True)
class Parity:
    """The largest difference between the model and its exported form, over `inputs` random inputs."""

    max_abs_error: float
    inputs: int


@dataclass(frozen=True)
class Output:
    """One file that was written ("-": the standard output)."""

    path: str
    format: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class CommandReport(JsonReport):
    """What every command says of itself; a report of its own adds what it found.

    Attributes:
        command: its name, "prune".
        arguments: the command line, from the command's name on.
        versions: of Python, of us, and of the libraries that took part; those in force unless given.
        seed: of everything that was drawn, itself drawn where none was given; None: nothing was.
        threads: that each process computed with.
        settings: the method and its settings, as the config names them; JSON values only.
        stages: seconds that each stage took.
        warnings: what the user should know about the result.
        outputs: the files that were written.
    """

    command: str
    arguments: tuple[str, ...]
    versions: dict[str, str] = field(default_factory=runtime.versions)
    seed: int | None
    threads: int
    settings: dict[str, Any]
    stages: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    outputs: tuple[Output, ...] = ()

    def _body(self) -> dict[str, Any]:
        """What was found comes before stages, warnings and outputs."""
        body = super()._body()
        return {name: body[name] for name in sorted(body, key=lambda name: name in ("stages", "warnings", "outputs"))}


@dataclass(frozen=True, kw_only=True)
class ModelReport(CommandReport):
    """What every command says that works on a model.

    Attributes:
        device: that it was trained on, where it was.
        model: as it came.
    """

    seed: int
    device: str
    model: ModelInfo


@dataclass(frozen=True, kw_only=True)
class Report(ModelReport):
    """What one `prune` did.

    Attributes:
        target: None for a command without one.
        path: of the search for widths, where they were learned.
        tries: of the search for a latency.
    """

    target: Target | None
    before: Measure
    after: Measure
    layers: tuple[LayerRow, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    path: tuple[SearchPoint, ...] = ()
    tries: tuple[LatencyTry, ...] = ()
    parity: Parity | None = None
