"""Accuracy against MACs: one model pruned to several fractions, each time from the whole.

curve ──► a PruneResult a fraction
run   ──► net.0.90.onnx, net.0.80.onnx, ... and net.curve.json, which grows with them and is what --resume goes on from
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from compresskit.data import Dataset
from compresskit.errors import TargetError, UsageError
from compresskit.models.graph import ModelGraph
from compresskit.progress import SILENT, Progress
from compresskit.pruning.config import PruneConfig, Target
from compresskit.pruning.curve_config import CurveRequest, spelled
from compresskit.pruning.curve_report import CurveOutcome, CurvePoint, CurveReport, read_report
from compresskit.pruning.engine import prune
from compresskit.pruning.opened import Finished, Opened, open_model
from compresskit.pruning.pipeline import about_data, about_result
from compresskit.pruning.request import PruneRequest
from compresskit.pruning.result import PruneResult
from compresskit.report import Measure, Output
from compresskit.runtime import seed_everything
from compresskit.training.tuning import Checkpointing, checkpointing, discard_checkpoints
from compresskit.writers import check_target, write_bytes


def curve(
    graph: ModelGraph,
    data: Dataset | None,
    config: PruneConfig,
    fractions: Sequence[float],
    *,
    device: torch.device | str = "cpu",
    kept: Checkpointing | None = None,
    progress: Progress = SILENT,
) -> Iterator[tuple[float, PruneResult]]:
    """Prune `graph` to each of `fractions` of its MACs, the largest first; each result is what `prune` alone would give for it.

    Ends early with the first fraction that is out of reach, as smaller ones would give the same model.

    Args:
        config: its target stands for none.
        kept: where the state of training is kept, of one fraction at a time.

    Raises:
        CompresskitError: as `prune`.
    """
    for fraction in sorted(fractions, reverse=True):
        progress.note(f"to {fraction:g} of the MACs")
        seed_everything(config.seed)
        result = prune(graph, data, replace(config, target=Target("flops", fraction)), device=device, checkpointing=kept, progress=progress)
        yield fraction, result
        if result.out_of_reach:
            return


def run(request: CurveRequest, progress: Progress = SILENT) -> CurveOutcome:
    """Do what `compresskit prune --curve` says it does. Points that are there already stay, where the request says to go on.

    Raises:
        CompresskitError: of the kind that the exit codes describe; the points that were reached before are there.
    """
    before = read_report(request.state) if request.prune.resume else None
    opened = open_model(request.prune if before is None else _as_settled(request.prune, before), progress)
    report = _begun(request, opened, before)
    lowest = max((point.asked for point in report.points if point.out_of_reach), default=0.0)
    missing = [fraction for fraction in request.fractions if fraction > lowest and fraction not in {point.asked for point in report.points}]
    if not request.prune.dry_run:
        _check(request, missing)
    kept = checkpointing(request.prune)
    results = curve(opened.graph, opened.data, opened.config, missing, device=opened.device, kept=kept, progress=progress)
    while (found := _next(results, opened)) is not None:
        fraction, result = found
        done = opened.finish(result.graph, progress)
        report = _longer(report, _point(request, opened, fraction, result, done), done.before, request, opened)
        if not request.prune.dry_run:
            _write(request, fraction, report, done.onnx)
            discard_checkpoints(request.prune, opened.config.steps)
    return CurveOutcome(report, _missed(report))


def _as_settled(request: PruneRequest, before: CurveReport) -> PruneRequest:
    """`request` with the multiple of widths that an earlier run measured, where it is to be measured: a second measurement may find another."""
    multiple = before.settings.get("round_to")
    if request.config.round_to != 0 or not isinstance(multiple, int):
        return request
    return replace(request, config=replace(request.config, round_to=multiple))


def _begun(request: CurveRequest, opened: Opened, before: CurveReport | None) -> CurveReport:
    """The report to begin with: that of the run `before`, with those of its points whose models are there, or one without points.

    Raises:
        UsageError: the earlier run was another.
    """
    fresh = CurveReport(
        command="prune",
        arguments=request.prune.arguments,
        seed=opened.config.seed,
        threads=opened.threads,
        settings=opened.settings(),
        device=opened.device,
        model=opened.info(),
        digest=_digest(opened.onnx),
        whole=opened.measured(),
        warnings=tuple(about_data(opened.data)),
    )
    if before is None:
        return fresh
    asked, found = {**_identity(fresh), "epochs": request.prune.config.epochs}, _identity(before)  # a dry run trains for none
    if differing := ", ".join(sorted(name for name in asked | found if asked.get(name) != found.get(name))):
        raise UsageError(f"{request.state} is of another curve, different in {differing}: repeat its settings, or remove it to start again")
    points = tuple(point for point in before.points if _is_there(request, point))
    return _of(fresh, points, before.whole, request, opened)


def _identity(report: CurveReport) -> dict[str, object]:
    """What two runs must have in common for the points of one to belong to the other."""
    accuracy = report.whole.accuracy and report.whole.accuracy.value
    return {**report.settings, "the model": report.digest, "seed": report.seed, "the data": accuracy}


def _is_there(request: CurveRequest, point: CurvePoint) -> bool:
    path = request.model(point.asked)
    return path.is_file() and _digest(path.read_bytes()) == point.digest


def _check(request: CurveRequest, fractions: Sequence[float]) -> None:
    """Make the folder, and refuse what could not be written in the end.

    Raises:
        UsageError, OutputError: as `check_target`.
    """
    request.folder.mkdir(parents=True, exist_ok=True)
    protect = request.prune.files_read()
    for path in map(request.model, fractions):
        check_target(path, force=request.prune.force, protect=protect)
    check_target(request.state, force=request.prune.force or request.prune.resume, protect=protect)


def _next(results: Iterator[tuple[float, PruneResult]], opened: Opened) -> tuple[float, PruneResult] | None:
    with opened.clock("prune"):
        return next(results, None)


def _point(request: CurveRequest, opened: Opened, fraction: float, result: PruneResult, done: Finished) -> CurvePoint:
    return CurvePoint(
        asked=fraction,
        reached=result.reached,
        out_of_reach=result.out_of_reach,
        measure=done.after,
        parity=done.parity,
        output=Output(str(request.model(fraction)), "onnx", len(done.onnx)),
        digest=_digest(done.onnx),
        skipped=result.skipped,
        warnings=tuple(about_result(opened.config, result, done.before, done.after)),
    )


def _longer(report: CurveReport, point: CurvePoint, whole: Measure, request: CurveRequest, opened: Opened) -> CurveReport:
    """`report` with one more point, measured beside `whole`."""
    points = tuple(sorted((*report.points, point), key=lambda one: -one.asked))
    return replace(_of(report, points, whole, request, opened), stages=opened.clock.seconds)


def _of(report: CurveReport, points: tuple[CurvePoint, ...], whole: Measure, request: CurveRequest, opened: Opened) -> CurveReport:
    """`report` with these points, and with what all of them say and wrote."""
    said = (f"{spelled(point.asked)}: {warning}" for point in points for warning in point.warnings)
    outputs = () if request.prune.dry_run else tuple(point.output for point in points)
    return replace(report, points=points, whole=whole, warnings=(*about_data(opened.data), *said), outputs=outputs)


def _write(request: CurveRequest, fraction: float, report: CurveReport, model: bytes) -> None:
    """Write how far the curve is, and then the model: killed in between, the point is made again."""
    protect = request.prune.files_read()
    write_bytes(request.state, report.to_json().encode(), force=True, protect=protect)
    write_bytes(request.model(fraction), model, force=request.prune.force, protect=protect)


def _missed(report: CurveReport) -> TargetError | None:
    missed = [point for point in report.points if point.out_of_reach]
    if not missed:
        return None
    asked, reached = missed[-1].asked, missed[-1].reached
    return TargetError(f"--curve: {asked:.4f} of the MACs is out of reach, {reached:.4f} stays; lower --floor, or end with a larger fraction")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
