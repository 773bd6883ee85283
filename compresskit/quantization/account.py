"""What a run of `quantize` did, put into a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from compresskit.data import UNTESTED, Dataset
from compresskit.models.info import model_info
from compresskit.quantization.bitwidths.assign import TOLERANCE
from compresskit.quantization.bitwidths.cost import WIDTHS
from compresskit.quantization.bitwidths.learn import Mixed
from compresskit.quantization.config import QuantizeConfig, QuantizeRequest
from compresskit.quantization.measure import layer_rows, runs_in_integers
from compresskit.quantization.network import opset_of
from compresskit.quantization.quantized import Quantized
from compresskit.quantization.report import Figures, Integers, QuantizeReport
from compresskit.quantization.source import Source
from compresskit.recipes import TrainingSettings
from compresskit.report import Output, Target
from compresskit.requests import dry_run_warning

FEW_SAMPLES = 16
SLOWER = 1.05  # a model counts as slower from this ratio of the median times on


@dataclass(frozen=True)
class Work:
    """What a run went through.

    Attributes:
        mixed: how widths were learned, where they were.
        lost: by layer, what each loses by itself, where it was measured.
        before, after: what was measured of the model and of the result.
        device, threads: that were computed on and with.
    """

    source: Source
    data: Dataset | None
    done: Quantized
    mixed: Mixed | None
    lost: Mapping[str, float] | None
    before: Figures
    after: Figures
    device: str
    threads: int

    @property
    def fused(self) -> bool:
        """Whether ONNX Runtime computes the result in integers."""
        if self.done.plan is None:
            return False
        pairs = {(self.done.weights[layer.weight].bits, self.done.activations[layer.input].bits) for layer in self.done.layers}
        return all(runs_in_integers(*pair) for pair in pairs)


def make_report(request: QuantizeRequest, work: Work, seconds: dict[str, float], written: Sequence[Output]) -> QuantizeReport:
    """The report of a run that took `seconds` by stage."""
    config, done, mixed = request.config, work.done, work.mixed
    static = done.plan is not None
    return QuantizeReport(
        command="quantize",
        arguments=request.arguments,
        seed=config.seed,
        threads=work.threads,
        settings=_settings(config, work.data),
        device=work.device,
        model=model_info(work.source.name, work.source.arch, work.source.inputs),
        scheme=_scheme(config, static=static),
        weights_are="integers" if work.fused else "indices" if done.codebooks else "storage",
        activations_are="integers" if work.fused else "simulated" if static else "float",
        before=work.before,
        after=work.after,
        speedup=work.before.latency.p50_ms / work.after.latency.p50_ms,
        layers=tuple(layer_rows(done, work.lost)),
        skipped=done.skipped,
        equalized=done.equalized,
        integers=_integers(done),
        target=None if mixed is None else Target(mixed.quantity, mixed.asked, mixed.reached),
        path=() if mixed is None else mixed.path,
        stages=seconds,
        warnings=(*dry_run_warning(request, request.outputs), *_warnings(config, work), *_missed(mixed)),
        outputs=tuple(written),
    )


def _scheme(config: QuantizeConfig, *, static: bool) -> str:
    weights = f"{WIDTHS[0]}-{WIDTHS[-1]}" if config.target is not None else config.weights
    return f"W{weights}A{config.activations}" if static else f"W{weights}"


def _integers(done: Quantized) -> Integers | None:
    found = done.integrity
    return None if found is None or not found.nodes else Integers(found.nodes, found.integers, found.equal, found.worst)


def _settings(config: QuantizeConfig, data: Dataset | None) -> dict[str, Any]:
    """What was asked for; of training only where there was any."""
    idle = {"seed"} if config.trains else {field.name for field in fields(TrainingSettings)}
    settings = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items() if name not in idle}
    if data is not None:
        settings["normalization"] = data.normalization_said()
    return settings


def _warnings(config: QuantizeConfig, work: Work) -> Iterator[str]:
    data, done = work.data, work.done
    if done.codebooks:
        yield "codebooks are storage: the weights become floats when the model is loaded, which makes the file smaller and nothing faster"
    elif data is None:
        yield "no --data to calibrate activations on: only the weights were quantized, which makes the file smaller and nothing faster"
    elif not work.fused:
        yield f"{_scheme(config, static=True)} has no integer kernels: weights are packed for storage, activations are simulated in float"
    if config.reduce_range is None and config.weights == 8 and any(grid.bits == 7 for grid in done.weights.values()):
        yield "sums of 8-bit products overflow on this CPU: weights were given 7 bits (--reduce-range no keeps 8)"
    opsets = [opset_of(model) for model in (work.source.model, done.model)]
    if opsets[0] != opsets[1]:
        yield f"the operators of opset {opsets[0]} became those of {opsets[1]}, which the integers need"
    if done.plan is not None and data is not None and (count := min(config.samples, len(data.train))) < FEW_SAMPLES:
        yield f"ranges were chosen on {count} sample{'s' * (count != 1)}: {FEW_SAMPLES} or more are better"
    if data is not None and work.before.accuracy is None:
        yield "accuracy was not measured: the model has several outputs, and labels do not say which to measure"
    if data is not None and data.test is None:
        yield UNTESTED
    times = work.before.latency.p50_ms, work.after.latency.p50_ms
    if times[1] > SLOWER * times[0]:
        yield f"slower in ONNX Runtime here ({times[1]:.3g} ms, {times[0]:.3g} ms before)"


def _missed(mixed: Mixed | None) -> Iterator[str]:
    if mixed is not None and mixed.reached < (1 - TOLERANCE) * mixed.asked:
        yield f"the nearest to {mixed.asked:.4f} of float32 that whole layers allow is {mixed.reached:.4f}"
