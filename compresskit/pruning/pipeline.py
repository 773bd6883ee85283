"""`prune` from file to files: read the model and the data, cut and train, check, write, report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from compresskit.data import UNTESTED, Dataset
from compresskit.errors import CompresskitError, GuardError, TargetError
from compresskit.guards import accuracy_guard
from compresskit.models.checkpoint import CONTAINERS, save_checkpoint
from compresskit.models.graph import ModelGraph
from compresskit.progress import SILENT, Progress
from compresskit.pruning.config import PruneConfig
from compresskit.pruning.engine import prune
from compresskit.pruning.measure import layer_rows
from compresskit.pruning.opened import Finished, Opened, open_model
from compresskit.pruning.request import PruneRequest
from compresskit.pruning.result import PruneResult
from compresskit.report import Measure, Output, Report, Target
from compresskit.requests import dry_run_warning
from compresskit.training.tuning import Checkpointing, checkpointing, discard_checkpoints
from compresskit.writers import STDOUT, write_bytes

SLOWER = 1.05  # a model counts as slower from this ratio of the median times on


@dataclass(frozen=True)
class PruneOutcome:
    """What a run gives back.

    Attributes:
        report: everything measured.
        standard_output: the ONNX bytes that belong on stdout, where "-" was among the outputs.
        failure: what the command must end with although there is a report, and a model, the nearest to what was asked for: the target was
            missed, or accuracy fell too far.
    """

    report: Report
    standard_output: bytes | None = None
    failure: CompresskitError | None = None


Engine = Callable[[Opened, Checkpointing | None, Progress], PruneResult]
"""What makes a model smaller; training keeps its state where the second argument says."""


def engine(opened: Opened, kept: Checkpointing | None, progress: Progress) -> PruneResult:
    """The engine of `compresskit prune`."""
    return prune(opened.graph, opened.data, opened.config, device=opened.device, table=opened.table, checkpointing=kept, progress=progress)


def run(request: PruneRequest, progress: Progress = SILENT, *, engine: Engine = engine, command: str = "prune") -> PruneOutcome:
    """Do what `compresskit prune` says it does, or another `command` with an `engine` of its own.

    Raises:
        CompresskitError: of the kind that the exit codes describe; nothing has been written then.
    """
    opened = open_model(request, progress)
    config = opened.config
    kept = checkpointing(request)
    with opened.clock(command):
        result = engine(opened, kept, progress)
    done = opened.finish(result.graph, progress)
    failure = _guard(request, done) or _missed(config, result)
    written = [] if request.dry_run else _write(request, done.graph, done.onnx)
    report = Report(
        command=command,
        arguments=request.arguments,
        seed=config.seed,
        threads=opened.threads,
        settings=opened.settings(),
        device=opened.device,
        model=opened.info(),
        target=_target(config, result),
        before=done.before,
        after=done.after,
        layers=layer_rows(opened.graph, done.graph),
        skipped=result.skipped,
        parity=done.parity,
        path=result.path,
        tries=result.tries,
        stages=opened.clock.seconds,
        warnings=(
            *dry_run_warning(request, request.outputs),
            *opened.warnings,
            *about_data(opened.data),
            *about_result(config, result, done.before, done.after),
        ),
        outputs=tuple(written),
    )
    discard_checkpoints(request, config.steps)
    standard_output = done.onnx if STDOUT in request.outputs and written else None
    return PruneOutcome(report, standard_output, failure)


def _guard(request: PruneRequest, done: Finished) -> GuardError | None:
    """The error of --max-drop; a dry run trains nothing, and so says nothing about it."""
    return None if request.dry_run else accuracy_guard(request.config.max_drop, done.before.accuracy, done.after.accuracy)


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


def _target(config: PruneConfig, result: PruneResult) -> Target:
    """What was asked for and reached, in the unit in which it was asked."""
    if config.target is None:
        return Target("sparsity", result.asked, result.reached)
    if config.target.relative:
        return Target(config.target.quantity, result.asked, result.reached)
    unit = {"flops": "MACs", "params": "parameters", "size": "bytes", "latency": "ms"}[config.target.quantity]
    reached = config.target.value * result.reached / result.asked
    return Target(config.target.quantity, config.target.value, reached if unit == "ms" else float(round(reached)), unit)


def about_data(data: Dataset | None) -> Iterator[str]:
    """What the user should know of the accuracies."""
    if data is None:
        yield "accuracy was not measured and nothing was trained: give --data"
    elif data.test is None:
        yield UNTESTED


def about_result(config: PruneConfig, result: PruneResult, before: Measure, after: Measure) -> Iterator[str]:
    """What the user should know of one pruned model."""
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
