"""`quantize` from file to files: read the model and the data, calibrate, quantize, perhaps train, check, time, write, report."""

from __future__ import annotations

from dataclasses import replace

import torch

from compresskit.data import Dataset, read_data
from compresskit.errors import GuardError, UsageError
from compresskit.guards import accuracy_guard
from compresskit.models.isolated import Child
from compresskit.models.latency import compare
from compresskit.models.outputs import write_onnx
from compresskit.progress import SILENT, Progress
from compresskit.quantization.account import Work, make_report
from compresskit.quantization.bitwidths.learn import Mixed, learn_widths
from compresskit.quantization.config import QuantizeConfig, QuantizeRequest
from compresskit.quantization.engine import quantize
from compresskit.quantization.measure import onnx_accuracy
from compresskit.quantization.network import Network
from compresskit.quantization.qat.engine import train_quantized
from compresskit.quantization.quantized import Quantized
from compresskit.quantization.report import Figures, QuantizeOutcome
from compresskit.quantization.sensitivity import sensitivities
from compresskit.quantization.source import Source, read_source, takes
from compresskit.report import Accuracy, Latency
from compresskit.runtime import Clock, seed_everything, select_device, set_threads
from compresskit.training.tuning import checkpointing, discard_checkpoints
from compresskit.writers import STDOUT

SHARED_BYTES = 8_000_000  # of a model; below, a second thread gains nothing on an idle machine, and costs ten times the time on a busy one
PHASES = 1  # of training, before the last: the search for widths


def run(request: QuantizeRequest, progress: Progress = SILENT) -> QuantizeOutcome:
    """Do what `compresskit quantize` says it does.

    Raises:
        CompresskitError: of the kind that the exit codes describe; nothing has been written then.
    """
    config, clock = request.config, Clock()
    _check(request)
    seed_everything(config.seed)
    with clock("read"):
        progress.stage("read")
        source = read_source(request)
        _check_outputs(config, source)
        data = None if request.data is None else read_data(request, takes(source), seed=config.seed, progress=progress)
    original = source.model.SerializeToString()
    threads = set_threads(request.threads if request.threads is not None else 1 if len(original) < SHARED_BYTES else 0)
    device = select_device(request.device if config.trains else "cpu")
    with Child() as child:
        done, mixed = _quantized(request, source, data, device, threads, child, clock, progress)
        model = done.model.SerializeToString()
        with clock("measure"):
            progress.stage("measure")
            accuracies = [_accuracy(one, done.network, data, threads, child) for one in (original, model)]
        lost = None
        if config.sensitivity and data is not None:
            with clock("sensitivity"):
                lost = sensitivities(done, data, threads=threads, child=child, progress=progress)
    with clock("time"):
        progress.stage("time")
        timings = [Latency(t.p50_ms, t.p90_ms, t.threads, t.batch) for t in compare(original, model, source.feeds(), threads=threads, isolated=True)]
    before, after = Figures(len(original), accuracies[0], timings[0]), Figures(len(model), accuracies[1], timings[1])
    failure = _guard(config, before, after)
    written = [] if request.dry_run else write_onnx(model, request.outputs, force=request.force, protect=request.files_read())
    discard_checkpoints(request, PHASES)
    report = make_report(request, Work(source, data, done, mixed, lost, before, after, str(device), threads), clock.seconds, written)
    return QuantizeOutcome(report, model if STDOUT in request.outputs and written else None, failure)


def _check(request: QuantizeRequest) -> None:
    """Refuse what needs data without them.

    Raises:
        UsageError: something does.
    """
    config = request.config
    needs = {
        "--max-drop needs --data to measure accuracy on": config.max_drop is not None,
        "--sensitivity needs --data to measure accuracy on": config.sensitivity,
        f"--{config.target[0] if config.target else 'size'} learns widths: give --data": config.target is not None,
        f"--method {config.method} trains: give --data": config.trains,
    }
    for message, asked in needs.items():
        if asked and request.data is None:
            raise UsageError(message)


def _check_outputs(config: QuantizeConfig, source: Source) -> None:
    """Refuse what needs one output where there are several.

    Raises:
        UsageError: something does.
    """
    asked = {"--max-drop": config.max_drop is not None, "--sensitivity": config.sensitivity, f"--method {config.method}": config.method != "ptq"}
    count = len(source.model.graph.output)
    for flag, wanted in asked.items():
        if wanted and count != 1:
            raise UsageError(f"{flag}: {source.name} has {count} outputs, and labels do not say which to measure")


def _quantized(
    request: QuantizeRequest,
    source: Source,
    data: Dataset | None,
    device: torch.device,
    threads: int,
    child: Child,
    clock: Clock,
    progress: Progress,
) -> tuple[Quantized, Mixed | None]:
    """Quantize after training, and then under training where that is asked for."""
    config = request.config
    with clock("quantize"):
        start = replace(config, rounding="nearest") if config.trains else config  # training moves weights across the grid anyway
        done = quantize(source.model, data, start, source=source.name, threads=threads, child=child, progress=progress)
    if not config.trains or data is None:
        return done, None
    kept = checkpointing(request)
    with clock("train"):
        if config.target is None:
            return train_quantized(done, data, config, device=device, kept=kept, threads=threads, child=child, progress=progress), None
        mixed = learn_widths(done, data, config, *config.target, device=device, kept=kept, threads=threads, progress=progress)
        return mixed.done, mixed


def _accuracy(model: bytes, network: Network, data: Dataset | None, threads: int, child: Child) -> Accuracy | None:
    """Accuracy where it can be measured: on data, of a model of one output."""
    if data is None or len(network.outputs) != 1:
        return None
    return onnx_accuracy(model, network.inputs[0], data, batch=network.fixed_batch, threads=threads, child=child)


def _guard(config: QuantizeConfig, before: Figures, after: Figures) -> GuardError | None:
    """Whether accuracy fell (or error rose, as a fraction) by more than is allowed, or the result is not as fast as it has to be."""
    fallen = accuracy_guard(config.max_drop, before.accuracy, after.accuracy)
    if fallen is not None:
        return fallen
    speedup = before.latency.p50_ms / after.latency.p50_ms
    if config.require_speedup is not None and speedup < config.require_speedup:
        return GuardError(
            f"the result is {speedup:.2f} times as fast ({after.latency.p50_ms:.3g} ms, {before.latency.p50_ms:.3g} ms before) "
            f"where --require-speedup asks for {config.require_speedup:g}: ask for less"
        )
    return None
