"""`quantize --sweep`: accuracy against bits. The model is read once, and quantized and measured as `quantize` does at every width."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields

from compresskit.data import UNTESTED, read_data
from compresskit.errors import CompresskitError, GuardError, InputError
from compresskit.guards import accuracy_guard
from compresskit.models.info import model_info
from compresskit.models.isolated import Child
from compresskit.models.outputs import write_onnx
from compresskit.progress import SILENT, Progress
from compresskit.quantization.config import QuantizeConfig
from compresskit.quantization.engine import quantize
from compresskit.quantization.measure import onnx_accuracy
from compresskit.quantization.source import read_source, takes
from compresskit.quantization.sweep_request import SweepRequest
from compresskit.recipes import TrainingSettings
from compresskit.report import Accuracy, ModelReport
from compresskit.requests import dry_run_warning
from compresskit.runtime import Clock, seed_everything, set_threads
from compresskit.writers import STDOUT

_OTHER = {"weights", "activations", "method", "require_speedup", *(one.name for one in fields(TrainingSettings))}
"""Settings that the rows say, or that have no say here."""


@dataclass(frozen=True)
class SweepRow:
    """The model at one width.

    Attributes:
        weights, activations: bits, as asked for.
        bytes: of the ONNX file.
        allowed: whether the accuracy is one that `--max-drop` allows; None: it was not given.
    """

    weights: int
    activations: int
    accuracy: Accuracy
    bytes: int
    allowed: bool | None


@dataclass(frozen=True, kw_only=True)
class SweepReport(ModelReport):
    """What one `quantize --sweep` found.

    Attributes:
        accuracy, bytes: of the float model.
        rows: in the order in which they were asked for.
    """

    accuracy: Accuracy
    bytes: int
    rows: tuple[SweepRow, ...]


@dataclass(frozen=True)
class SweepOutcome:
    """What a run gives back.

    Attributes:
        standard_output: the ONNX bytes that belong on stdout, where "-" was among the outputs.
        failure: no width is accurate enough; the most accurate model is written.
    """

    report: SweepReport
    standard_output: bytes | None = None
    failure: CompresskitError | None = None


def run(request: SweepRequest, progress: Progress = SILENT) -> SweepOutcome:
    """Quantize at every width, measure, and where a model is wanted, write the smallest that is accurate enough, or the most accurate.

    Raises:
        CompresskitError: of the kind that the exit codes describe; nothing has been written then.
    """
    first, clock = request.configs[0], Clock()
    threads = set_threads(request.threads or 0)
    seed_everything(first.seed)
    with clock("read"):
        progress.stage("read")
        source = read_source(request)
        if len(source.model.graph.output) != 1:
            raise InputError(f"{source.name} has {len(source.model.graph.output)} outputs: --sweep measures models with one")
        data = read_data(request, takes(source), seed=first.seed, progress=progress)
    original, name = source.model.SerializeToString(), source.inputs[0].name
    batch = source.inputs[0].shape[0]
    with Child() as child:
        with clock("measure"):
            before = onnx_accuracy(original, name, data, batch=batch, threads=threads, child=child)
        rows: list[SweepRow] = []
        best: tuple[SweepRow, bytes] | None = None
        for config in request.configs:
            with clock("quantize"):
                done = quantize(source.model, data, config, source=source.name, threads=threads, child=child, progress=progress)
                model = done.model.SerializeToString()
            with clock("measure"):
                progress.stage("measure")
                accuracy = onnx_accuracy(model, name, data, batch=batch, threads=threads, child=child)
            allowed = None if config.max_drop is None else accuracy_guard(config.max_drop, before, accuracy) is None
            rows.append(SweepRow(config.weights, config.activations, accuracy, len(model), allowed))
            if request.outputs and (best is None or _worth(rows[-1]) > _worth(best[0])):
                best = rows[-1], model
    failure = GuardError(_too_low(first, best[0])) if best is not None and not best[0].allowed else None
    written = [] if best is None or request.dry_run else write_onnx(best[1], request.outputs, force=request.force, protect=request.files_read())
    report = SweepReport(
        command="quantize",
        arguments=request.arguments,
        seed=first.seed,
        threads=threads,
        settings={key: value for key, value in asdict(first).items() if key not in _OTHER},
        device="cpu",
        model=model_info(source.name, source.arch, source.inputs),
        accuracy=before,
        bytes=len(original),
        rows=tuple(rows),
        stages=clock.seconds,
        warnings=tuple(_warnings(request, data.test is None)),
        outputs=tuple(written),
    )
    return SweepOutcome(report, best[1] if best is not None and STDOUT in request.outputs and written else None, failure)


def _worth(row: SweepRow) -> tuple[bool, float]:
    """What makes a row the one to write: it is accurate enough, and then small; else it is accurate."""
    return (True, -row.bytes) if row.allowed else (False, row.accuracy.merit)


def _too_low(config: QuantizeConfig, best: SweepRow) -> str:
    widths = f"W{best.weights}A{best.activations}"
    return f"no width is as accurate as --max-drop {config.max_drop:g} asks for: {best.accuracy.value:.4f} at {widths} is the best"


def _warnings(request: SweepRequest, untested: bool) -> Iterator[str]:
    if request.outputs:
        yield from dry_run_warning(request, request.outputs)
    if untested:
        yield UNTESTED
