"""`compresskit prune --curve`: one model pruned to several fractions of its MACs, as files, a table and a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from compresskit.errors import UsageError
from compresskit.pruning.config import Target
from compresskit.pruning.curve_config import CurveRequest
from compresskit.pruning.curve_report import CurveReport, read_report
from compresskit.pruning.request import PruneRequest
from compresskit.writers import STDOUT, is_folder, write_bytes

from .console import Console
from .destinations import model_stem
from .options import refuse_beside
from .plot import Series, draw_curves
from .results import check_outputs, deliver, files_read, protected
from .targets import TargetOptions

if TYPE_CHECKING:
    from .prune import PruneOptions

PERCENT = 100


def prune_curve(console: Console, options: PruneOptions, fractions: tuple[float, ...], request_for: Callable[[Target], PruneRequest]) -> None:
    """Prune to every one of `fractions`, and hand over what came of it.

    Args:
        request_for: what `prune` would be asked for one target.

    Raises:
        CompresskitError: of the kind that the exit codes describe; the points that were reached before are there.
    """
    refuse_beside(console, "--curve", {field.name for field in fields(TargetOptions)} | {"stdout", "table"})
    folder = _folder(options)
    request = request_for(Target("flops", fractions[0]))
    asked = _seeded(options, CurveRequest(request, fractions, folder, model_stem(options.model)))
    inputs = files_read(options, options.data)
    # What a run that was interrupted left, --resume replaces.
    replacing = replace(options, force=options.force or options.resume)
    _check(console, replacing, asked, inputs)
    # Only now, so that --help and wrong options are answered at once.
    from compresskit.pruning.curve import run

    from .curve_tables import curve_tables

    with console.progress() as progress:
        outcome = run(asked, progress)
    report, write = outcome.report, not options.dry_run
    if options.plot and write and report.points:
        write_bytes(Path(options.plot), draw(report, Path(options.plot).suffix), force=replacing.force, protect=protected(inputs))
    warnings = report.warnings if write else (f"dry run: {len(report.points)} models would be written to {asked.folder}", *report.warnings)
    deliver(console, replacing, report, curve_tables(report, asked.state if write else None), inputs=inputs, warnings=warnings, write=write)
    if outcome.failure is not None:
        raise outcome.failure


def draw(report: CurveReport, suffix: str) -> bytes:
    """Draw accuracy (where there are no data, latency) over MACs, as a file of the kind that `suffix` names."""
    models = [report.whole, *(point.measure for point in report.points)]
    title, x = Path(report.model.source).name, "MACs"
    accuracies = [model.accuracy for model in models if model.accuracy]
    if not accuracies:
        times = [(model.macs, model.latency.p50_ms) for model in models if model.latency]
        return draw_curves([Series("pruned", times)], suffix, title=title, x=x, y="median latency [ms]")
    shares = accuracies[0].low is not None
    scale = PERCENT if shares else 1
    points = [(model.macs, scale * accuracy.value) for model, accuracy in zip(models, accuracies, strict=True)]
    intervals = [(scale * one.low, scale * one.high) for one in accuracies if one.low is not None and one.high is not None]
    whole = Series("whole", [(models[-1].macs, points[0][1]), points[0]])
    y = f"{accuracies[0].metric} [%]" if shares else accuracies[0].metric
    return draw_curves([Series("pruned", points, intervals), whole], suffix, title=title, x=x, y=y)


def _folder(options: PruneOptions) -> Path:
    """The folder for the models: as asked, else that of the input.

    Raises:
        UsageError: a file is named.
    """
    if options.output is None:
        return Path(options.model).parent if Path(options.model).is_file() else Path()
    if len(options.output) > 1 or not is_folder(options.output[0]):
        example = "curve" if options.output[0] == STDOUT else Path(options.output[0]).stem
        raise UsageError(f"--curve writes a model for every point: -o takes one folder, as in -o {example}/")
    return Path(options.output[0])


def _seeded(options: PruneOptions, request: CurveRequest) -> CurveRequest:
    """`request` with the seed of the run that it goes on from, where none is given."""
    before = read_report(request.state) if options.resume and options.seed is None else None
    if before is None:
        return request
    return replace(request, prune=replace(request.prune, config=replace(request.prune.config, seed=before.seed)))


def _check(console: Console, options: PruneOptions, request: CurveRequest, inputs: tuple[str, ...]) -> None:
    """Refuse, before any work is done, what could not be written in the end; which models may stay, only the library knows.

    Raises:
        UsageError, OutputError: as `check_outputs`, and where a drawing cannot be made.
    """
    if request.state.exists() and not options.force:
        raise UsageError(f"{request.state} exists: go on from it with --resume, or use --force to replace it")
    models = (str(request.state), *map(str, map(request.model, request.fractions))) if request.folder.is_dir() else ()
    check_outputs(console, options, models, what="the models", inputs=inputs, drawings={"--plot": options.plot})
