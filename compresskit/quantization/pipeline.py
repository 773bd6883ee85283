"""`quantize` from file to files: read the model and the data, calibrate, quantize, check, time, write, report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from compresskit.data import Dataset, read_data
from compresskit.errors import GuardError, UsageError
from compresskit.guards import accuracy_guard
from compresskit.models.latency import compare
from compresskit.progress import SILENT, Progress
from compresskit.quantization.bitwidths.assign import TOLERANCE
from compresskit.quantization.bitwidths.cost import WIDTHS
from compresskit.quantization.bitwidths.learn import Mixed, learn_widths
from compresskit.quantization.config import QuantizeConfig, QuantizeRequest
from compresskit.quantization.engine import Quantized, quantize
from compresskit.quantization.measure import layer_rows, onnx_accuracy, runs_in_integers
from compresskit.quantization.network import Network, opset_of
from compresskit.quantization.qat.engine import train_quantized
from compresskit.quantization.report import Figures, Integers, QuantizeOutcome, QuantizeReport
from compresskit.quantization.sensitivity import sensitivities
from compresskit.quantization.source import Source, read_source, takes
from compresskit.recipes import TrainingSettings
from compresskit.report import Accuracy, Latency, ModelInfo, ModelInput, Output, Target
from compresskit.runtime import Clock, seed_everything, select_device, set_threads, versions
from compresskit.training.tuning import Checkpointing
from compresskit.writers import STDOUT, write_bytes

SHARED_BYTES = 8_000_000  # of a model; below, a second thread gains nothing on an idle machine, and costs ten times the time on a busy one
FEW_SAMPLES = 16
SLOWER = 1.05  # a model counts as slower from this ratio of the median times on


def run(request: QuantizeRequest, progress: Progress = SILENT) -> QuantizeOutcome:
    """Do what `compresskit quantize` says it does.

    Raises:
        CompresskitError: of the kind that the exit codes describe; nothing has been written then.
    """
    measured = [flag for flag, asked in (("--max-drop", request.config.max_drop is not None), ("--sensitivity", request.config.sensitivity)) if asked]
    if measured and request.data is None:
        raise UsageError(f"{measured[0]} needs --data to measure accuracy on")
    if request.config.target is not None and request.data is None:
        raise UsageError(f"--{request.config.target[0]} learns widths: give --data")
    if request.config.trains and request.data is None:
        raise UsageError(f"--method {request.config.method} trains: give --data")
    clock = Clock()
    seed_everything(request.config.seed)
    with clock("read"):
        progress.stage("read")
        source = read_source(request)
        if measured and len(source.model.graph.output) != 1:
            raise UsageError(f"{measured[0]}: {source.name} has {len(source.model.graph.output)} outputs, and labels do not say which to measure")
        data = None if request.data is None else read_data(request, takes(source), seed=request.config.seed, progress=progress)
    original = source.model.SerializeToString()
    threads = set_threads(request.threads if request.threads is not None else 1 if len(original) < SHARED_BYTES else 0)
    config = request.config
    with clock("quantize"):
        start = replace(config, rounding="nearest") if config.trains else config  # training moves weights across the grid anyway
        done = quantize(source.model, data, start, source=source.name, threads=threads, progress=progress)
    mixed = None
    if config.trains and data is not None:
        with clock("train"):
            options: dict[str, Any] = {
                "device": select_device(request.device),
                "kept": checkpointing(request),
                "threads": threads,
                "progress": progress,
            }
            if config.target is not None:
                mixed = learn_widths(done, data, config, *config.target, **options)
            done = train_quantized(done, data, config, **options) if mixed is None else mixed.done
    model = done.model.SerializeToString()
    with clock("measure"):
        progress.stage("measure")
        accuracies = [_accuracy(one, done.network, data, threads) for one in (original, model)]
    lost = None
    if config.sensitivity and data is not None:
        with clock("sensitivity"):
            lost = sensitivities(done, data, threads=threads, progress=progress)
    with clock("time"):
        progress.stage("time")
        timings = [Latency(t.p50_ms, t.p90_ms, t.threads, t.batch) for t in compare(original, model, source.feeds(), threads=threads, isolated=True)]
    before, after = Figures(len(original), accuracies[0], timings[0]), Figures(len(model), accuracies[1], timings[1])
    failure = _guard(config, before, after)
    written = [] if failure is not None or request.dry_run else _write(request, model)
    static = done.plan is not None
    widths = sorted({grid.bits for grid in done.weights.values()})
    fused = static and all(runs_in_integers(bits, config.activations) for bits in (config.weights, *widths))
    report = QuantizeReport(
        command="quantize",
        arguments=request.arguments,
        versions=versions(),
        seed=config.seed,
        threads=threads,
        model=_info(source),
        settings=_settings(config, data),
        scheme=_scheme(config, static=static),
        weights_are="integers" if fused else "indices" if done.codebooks else "storage",
        activations_are="integers" if fused else "simulated" if static else "float",
        before=before,
        after=after,
        speedup=before.latency.p50_ms / after.latency.p50_ms,
        layers=tuple(layer_rows(done, lost)),
        skipped=done.skipped,
        equalized=done.equalized,
        integers=_integers(done),
        target=None if mixed is None else Target(mixed.quantity, mixed.asked, mixed.reached),
        path=() if mixed is None else mixed.path,
        stages=clock.seconds,
        warnings=(*_dry_warning(request), *_warnings(config, source, data, done, fused, before, after), *_missed(mixed)),
        outputs=tuple(written),
    )
    return QuantizeOutcome(report, model if STDOUT in request.outputs and written else None, failure)


def _scheme(config: QuantizeConfig, *, static: bool) -> str:
    weights = f"{WIDTHS[0]}-{WIDTHS[-1]}" if config.target is not None else config.weights
    return f"W{weights}A{config.activations}" if static else f"W{weights}"


def _missed(mixed: Mixed | None) -> Iterator[str]:
    if mixed is not None and mixed.reached < (1 - TOLERANCE) * mixed.asked:
        yield f"the nearest to {mixed.asked:.4f} of float32 that whole layers allow is {mixed.reached:.4f}"


def checkpointing(request: QuantizeRequest) -> Checkpointing | None:
    """Where the training's state is kept, if anywhere."""
    return None if request.checkpoint is None else Checkpointing(Path(request.checkpoint), request.checkpoint_minutes, request.resume)


def _integers(done: Quantized) -> Integers | None:
    found = done.integrity
    return None if found is None or not found.nodes else Integers(found.nodes, found.integers, found.equal, found.worst)


def _accuracy(model: bytes, network: Network, data: Dataset | None, threads: int) -> Accuracy | None:
    """Accuracy where it can be measured: on data, of a model of one output."""
    if data is None or len(network.outputs) != 1:
        return None
    return onnx_accuracy(model, network.inputs[0], data, batch=network.fixed_batch, threads=threads)


def _guard(config: QuantizeConfig, before: Figures, after: Figures) -> GuardError | None:
    """Whether accuracy fell (or error rose, as a fraction) by more than is allowed, or the result is not as fast as it has to be."""
    fallen = accuracy_guard(config.max_drop, before.accuracy, after.accuracy)
    if fallen is not None:
        return fallen
    speedup = before.latency.p50_ms / after.latency.p50_ms
    if config.require_speedup is not None and speedup < config.require_speedup:
        return GuardError(
            f"the result is {speedup:.2f} times as fast ({after.latency.p50_ms:.3g} ms, {before.latency.p50_ms:.3g} ms before) "
            f"where --require-speedup asks for {config.require_speedup:g}: no model was written"
        )
    return None


def _write(request: QuantizeRequest, model: bytes) -> list[Output]:
    """Write every output; each is complete or absent. The bytes for the standard output are the caller's to write."""
    protect = request.files_read()
    for name in request.outputs:
        if name != STDOUT:
            write_bytes(Path(name), model, force=request.force, protect=protect)
    return [Output(name, "onnx", len(model)) for name in request.outputs]


def _info(source: Source) -> ModelInfo:
    inputs = tuple(ModelInput(spec.name, spec.shape, str(spec.dtype).removeprefix("torch.")) for spec in source.inputs)
    return ModelInfo(source.name, source.arch, inputs)


def _settings(config: QuantizeConfig, data: Dataset | None) -> dict[str, Any]:
    """What was asked for; of training only where there was any."""
    idle = {"seed"} if config.trains else {field.name for field in fields(TrainingSettings)}
    settings = {name: value for name, value in asdict(config).items() if name not in idle}
    if data is not None:
        mean, std = list(data.normalization.mean), list(data.normalization.std)
        settings["normalization"] = {"mean": mean, "std": std, "source": data.normalization_source}
    return settings


def _dry_warning(request: QuantizeRequest) -> tuple[str, ...]:
    return (f"dry run: {', '.join(request.outputs) or 'nothing'} would be written",) if request.dry_run else ()


def _warnings(
    config: QuantizeConfig, source: Source, data: Dataset | None, done: Quantized, fused: bool, before: Figures, after: Figures
) -> Iterator[str]:
    if done.codebooks:
        yield "codebooks are storage: the weights become floats when the model is loaded, which makes the file smaller and nothing faster"
    elif data is None:
        yield "no --data to calibrate activations on: only the weights were quantized, which makes the file smaller and nothing faster"
    elif not fused:
        yield f"{_scheme(config, static=True)} has no integer kernels: weights are packed for storage, activations are simulated in float"
    if config.reduce_range is None and config.weights == 8 and any(grid.bits == 7 for grid in done.weights.values()):
        yield "sums of 8-bit products overflow on this CPU: weights were given 7 bits (--reduce-range no keeps 8)"
    opsets = [opset_of(model) for model in (source.model, done.model)]
    if opsets[0] != opsets[1]:
        yield f"the operators of opset {opsets[0]} became those of {opsets[1]}, which the integers need"
    if done.plan is not None and data is not None and (count := min(config.samples, len(data.train))) < FEW_SAMPLES:
        yield f"ranges were chosen on {count} sample{'s' * (count != 1)}: {FEW_SAMPLES} or more are better"
    if data is not None and before.accuracy is None:
        yield "accuracy was not measured: the model has several outputs, and labels do not say which to measure"
    if data is not None and data.test is None:
        yield "the data have no test split: accuracy was measured on the validation split"
    times = before.latency.p50_ms, after.latency.p50_ms
    if times[1] > SLOWER * times[0]:
        yield f"slower in ONNX Runtime here ({times[1]:.3g} ms, {times[0]:.3g} ms before)"
