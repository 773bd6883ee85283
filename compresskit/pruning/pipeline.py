"""`prune` from file to files: read the model and the data, cut and train, check, write, report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from compresskit.data import Dataset, interface, read_data
from compresskit.errors import CompresskitError, GuardError, TargetError, UsageError
from compresskit.guards import accuracy_guard
from compresskit.models.checkpoint import Container, save_checkpoint
from compresskit.models.graph import ModelGraph, random_inputs
from compresskit.models.latency import compare, preferred_multiple
from compresskit.models.latency_file import cached_table, is_local, table_for
from compresskit.models.latency_operators import uses
from compresskit.models.latency_table import Table as LatencyTable
from compresskit.models.load import load_model
from compresskit.models.onnx_out import export_onnx
from compresskit.models.parity import check_parity
from compresskit.progress import SILENT, Progress
from compresskit.pruning.config import PruneConfig, PruneRequest
from compresskit.pruning.engine import PruneResult, prune
from compresskit.pruning.measure import layer_rows, measure, settle_threads, test_accuracy
from compresskit.pruning.recovery import Checkpointing
from compresskit.pruning.scoring import check_method
from compresskit.report import Accuracy, Measure, ModelInfo, ModelInput, Output, Parity, Report, Target
from compresskit.runtime import Clock, seed_everything, select_device, set_threads, versions
from compresskit.training import checkpoints
from compresskit.writers import write_bytes

STDOUT = "-"
SLOWER = 1.05  # a model counts as slower from this ratio of the median times on
CONTAINERS: dict[str, Container] = {".pt": "pt", ".safetensors": "safetensors"}


@dataclass(frozen=True)
class PruneOutcome:
    """What a run gives back.

    Attributes:
        report: everything measured.
        standard_output: the ONNX bytes that belong on stdout, where "-" was among the outputs.
        failure: what the command must end with although there is a report: the target was missed (the nearest model is written), or a guard
            failed (nothing is written).
    """

    report: Report
    standard_output: bytes | None = None
    failure: CompresskitError | None = None


def run(request: PruneRequest, progress: Progress = SILENT) -> PruneOutcome:
    """Do what `compresskit prune` says it does.

    Raises:
        CompresskitError: of the kind that the exit codes describe; nothing has been written then.
    """
    if request.config.max_drop is not None and request.data is None:
        raise UsageError("--max-drop needs --data to measure accuracy on")
    check_method(request.config, data=request.data is not None)
    clock = Clock()
    set_threads(request.threads or 0)
    device = str(select_device(request.device))
    seed_everything(request.config.seed)
    with clock("read"):
        progress.stage("read")
        graph = load_model(request.model, arch=request.arch, input_shape=request.input_shape, trust=request.trust, max_bytes=request.max_bytes)
        data = None if request.data is None else read_data(request, interface(graph), seed=request.config.seed, progress=progress)
    if request.config.init and graph.source != graph.arch:
        raise UsageError(f"--init prunes a network before training, and {graph.source} holds weights: drop --init, or name an architecture")
    threads = settle_threads(request.threads, graph)
    table, table_warnings = _latency_table(request, graph, threads, clock, progress)
    config = _settled(request, graph, table, threads)
    with clock("measure"):
        accuracy = _accuracy(graph, data, device)
    with clock("prune"):
        result = prune(graph, data, config, device=device, table=table, checkpointing=_checkpointing(request), progress=progress)
    graph = replace(graph, normalization=data.normalization if data else graph.normalization)
    smaller = replace(result.graph, normalization=graph.normalization)
    with clock("measure"):
        progress.stage("measure")
        accuracies = accuracy, _accuracy(smaller, data, device)
    with clock("export"):
        progress.stage("export")
        models = [export_onnx(model).SerializeToString() for model in (graph, smaller)]
        parity = check_parity(smaller, models[1])
    with clock("time"):
        progress.stage("time")
        timings = compare(models[0], models[1], _feeds(graph), threads=threads)
    failure = _missed(config, result) if request.dry_run else accuracy_guard(config.max_drop, *accuracies) or _missed(config, result)
    written = [] if isinstance(failure, GuardError) or request.dry_run else _write(request, smaller, models[1])
    before, after = (
        measure(model, accuracy, timing, count_zeros=config.sparse)
        for model, accuracy, timing in zip((graph, smaller), accuracies, timings, strict=True)
    )
    report = Report(
        command="prune",
        arguments=request.arguments,
        versions=versions(),
        seed=config.seed,
        device=device,
        threads=threads,
        model=_info(graph),
        settings=_settings(config, data),
        target=_target(config, result),
        before=before,
        after=after,
        layers=layer_rows(graph, smaller),
        skipped=result.skipped,
        parity=Parity(parity.max_abs_error, parity.samples),
        stages=clock.seconds,
        path=result.path,
        tries=result.tries,
        warnings=(*_dry_warning(request), *table_warnings, *_warnings(config, data, result, before, after)),
        outputs=tuple(written),
    )
    if not isinstance(failure, GuardError) and not request.dry_run:
        _discard_checkpoints(request)
    standard_output = models[1] if STDOUT in request.outputs and written else None
    return PruneOutcome(report, standard_output, failure)


def _latency_table(
    request: PruneRequest, graph: ModelGraph, threads: int, clock: Clock, progress: Progress
) -> tuple[LatencyTable | None, tuple[str, ...]]:
    """The table for a latency as target: from a file, or this machine's; and what a user should know about it."""
    target = request.config.target
    if target is None or target.quantity != "latency":
        if request.table is not None:
            raise UsageError("--table says how long operators take: it goes with --latency")
        return None, ()
    if request.table is None:
        with clock("table"):
            return cached_table(graph, threads=threads, progress=progress), ()
    table, warnings = table_for(Path(request.table), graph)
    if is_local(table):
        return table, warnings
    return table, (*warnings, f"latencies are predicted for {table.machine} from {request.table}: measure the model there")


def _settled(request: PruneRequest, graph: ModelGraph, table: LatencyTable | None, threads: int) -> PruneConfig:
    """The settings with what was left to us decided."""
    config = request.config.settled()
    if config.round_to == 0:
        config = replace(config, round_to=table.multiple(uses(graph, table.batch)) if table else preferred_multiple(threads=threads))
    return replace(config, epochs=0.0) if request.dry_run else config


def _checkpointing(request: PruneRequest) -> Checkpointing | None:
    return None if request.checkpoint is None else Checkpointing(Path(request.checkpoint), request.checkpoint_minutes, request.resume)


def _discard_checkpoints(request: PruneRequest) -> None:
    kept = _checkpointing(request)
    for phase in range(request.config.steps + 1 if kept else 0):  # the one more is preparation
        checkpoints.discard(kept.phase(phase))  # type: ignore[union-attr]


def _accuracy(graph: ModelGraph, data: Dataset | None, device: str) -> Accuracy | None:
    return None if data is None else test_accuracy(graph, data, device)


def _feeds(graph: ModelGraph) -> dict[str, np.ndarray]:
    """One sample, or the batch that the file fixes."""
    inputs = random_inputs(graph.inputs, 1, free_batch=False)
    return {spec.name: value.numpy() for spec, value in zip(graph.inputs, inputs, strict=True)}


def _missed(config: PruneConfig, result: PruneResult) -> TargetError | None:
    """A target that the floor forbids. That whole channels come only near one is no failure."""
    if config.target is None or not result.out_of_reach:
        return None
    asked, reached = (f"{value:.4f}" for value in (result.asked, result.reached))
    return TargetError(f"--{config.target.quantity}: {asked} of the model is out of reach, {reached} stays; lower --floor, or choose a larger target")


def _write(request: PruneRequest, graph: ModelGraph, onnx_model: bytes) -> list[Output]:
    """Write every output; each is complete or absent."""
    protect = request.files_read(request.table)
    written = []
    for name in request.outputs:
        suffix = Path(name).suffix.lower()
        container = CONTAINERS.get(suffix)
        data = onnx_model if container is None else save_checkpoint(graph, container)
        if name != STDOUT:
            write_bytes(Path(name), data, force=request.force, protect=protect)
        written.append(Output(name, container or "onnx", len(data)))
    return written


def _info(graph: ModelGraph) -> ModelInfo:
    inputs = tuple(ModelInput(spec.name, spec.shape, str(spec.dtype).removeprefix("torch.")) for spec in graph.inputs)
    return ModelInfo(graph.source, graph.arch, inputs)


def _settings(config: PruneConfig, data: Dataset | None) -> dict[str, Any]:
    settings = {name: value for name, value in asdict(config).items() if name not in ("target", "seed")}
    if data is not None:
        mean, std = list(data.normalization.mean), list(data.normalization.std)
        settings["normalization"] = {"mean": mean, "std": std, "source": data.normalization_source}
    return settings


def _target(config: PruneConfig, result: PruneResult) -> Target:
    """What was asked for and reached, in the unit in which it was asked."""
    if config.target is None:
        return Target("sparsity", result.asked, result.reached)
    if config.target.relative:
        return Target(config.target.quantity, result.asked, result.reached)
    unit = {"flops": "MACs", "params": "parameters", "size": "bytes", "latency": "ms"}[config.target.quantity]
    reached = config.target.value * result.reached / result.asked
    return Target(config.target.quantity, config.target.value, reached if unit == "ms" else float(round(reached)), unit)


def _dry_warning(request: PruneRequest) -> tuple[str, ...]:
    return (f"dry run: {', '.join(request.outputs) or 'nothing'} would be written",) if request.dry_run else ()


def _warnings(config: PruneConfig, data: Dataset | None, result: PruneResult, before: Measure, after: Measure) -> Iterator[str]:
    if data is None:
        yield "accuracy was not measured and nothing was trained: give --data"
    elif data.test is None:
        yield "the data have no test split: accuracy was measured on the validation split"
    yield from result.notes
    if config.sparse:
        yield from _sparsity_warnings(config, result)
        return
    if not result.met and not result.out_of_reach:
        yield f"the nearest to {result.asked:.4f} of the model that whole channels allow is {result.reached:.4f}"
    times = before.latency and before.latency.p50_ms, after.latency and after.latency.p50_ms
    if times[0] and times[1] and times[1] > SLOWER * times[0]:
        slower = f"fewer MACs, but slower in ONNX Runtime here ({times[1]:.3g} ms, {times[0]:.3g} ms before)"
        yield f"{slower}: its widths may not suit this machine; try --round-to auto" if config.round_to in (None, 1) else slower


def _sparsity_warnings(config: PruneConfig, result: PruneResult) -> Iterator[str]:
    if result.skipped:
        layers = f"{len(result.skipped)} layer{'s' * (len(result.skipped) != 1)}"
        yield f"{layers} cannot take pattern {config.pattern} and stayed dense: {result.reached:.4f} of all weights are zero, not {result.asked:.4f}"
    yield "zeros make the file compress better; ONNX Runtime on a CPU runs no faster for them"
