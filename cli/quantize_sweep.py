"""`compresskit quantize --sweep`: from the command line to `SweepRequest`, and from the outcome to a table and a drawing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from compresskit.errors import UsageError
from compresskit.quantization.config import QuantizeConfig
from compresskit.quantization.sweep_request import SweepRequest, parse_widths
from compresskit.writers import write_bytes

from .console import Console
from .destinations import ONNX, ONNX_ONLY, asked_outputs
from .options import OUTPUT, TARGET, option, refuse_beside
from .plot import Series, draw_curves
from .results import check_outputs, data_fields, deliver, files_read, model_fields, protected, run_fields

if TYPE_CHECKING:
    from compresskit.quantization.sweep import SweepReport, SweepRow

    from .quantize import QuantizeOptions


@dataclass(frozen=True)
class SweepOptions:
    """What measures a model at many widths."""

    sweep: Annotated[
        str | None,
        option(TARGET, "Measure at these bits, of weights and activations alike (8,6,4) or not (8:4,4:4).", "--sweep", metavar="B,.."),
    ] = None
    plot: Annotated[str | None, option(OUTPUT, "With --sweep: draw accuracy against bits (.png, .svg, .pdf).", "--plot", metavar="FILE")] = None


NO_SAY = ("weights", "activations", "size", "bit_ops", "method", "codebook", "sensitivity", "require_speedup")


def sweep(console: Console, options: QuantizeOptions, config: QuantizeConfig, widths: str) -> None:
    """Do what `compresskit quantize --sweep` says.

    Args:
        config: all settings but the widths.
    """
    refuse_beside(console, "--sweep", NO_SAY)
    outputs, inputs = asked_outputs(options, formats=(ONNX,), why=ONNX_ONLY), files_read(options, options.data)
    if options.data is None:
        raise UsageError("--sweep measures accuracy: give --data")
    check_outputs(console, options, outputs, what="the model", inputs=inputs, drawings={"--plot": options.plot})
    request = SweepRequest(
        **model_fields(console, options),
        **data_fields(options),
        **run_fields(console, options),
        configs=parse_widths(widths, config),
        outputs=outputs,
    )
    # Only now, so that --help and wrong options are answered at once.
    from compresskit.quantization.sweep import run

    from .sweep_tables import tables

    with console.progress() as progress:
        outcome = run(request, progress)
    report, write = outcome.report, not options.dry_run
    if options.plot and write:
        write_bytes(Path(options.plot), draw(report, Path(options.plot).suffix), force=options.force, protect=protected(inputs))
    deliver(console, options, report, tables(report), outcome.standard_output, inputs=inputs, warnings=report.warnings, write=write)
    if outcome.failure is not None:
        raise outcome.failure


def draw(report: SweepReport, suffix: str) -> bytes:
    """Accuracy over the bits of a weight, a curve for each number of bits of an activation; one for all where both are always alike."""
    alike = all(row.weights == row.activations for row in report.rows)
    widths = sorted({row.activations for row in report.rows}, reverse=True)
    series = [_curve("weights and activations", report.rows)] if alike else []
    if not alike:
        series = [_curve(f"activations of {width} bits", [row for row in report.rows if row.activations == width]) for width in widths]
    reach = sorted({row.weights for row in report.rows})
    series.append(Series("float", [(reach[0], report.accuracy.value), (reach[-1], report.accuracy.value)]))
    metric = report.accuracy.metric
    return draw_curves(series, suffix, title=Path(report.model.source).name, x="bits of a weight", y=f"{metric} on the test split")


def _curve(label: str, rows: tuple[SweepRow, ...] | list[SweepRow]) -> Series:
    ordered = sorted(rows, key=lambda row: row.weights)
    found = [row.accuracy for row in ordered]
    intervals = [(one.low, one.high) for one in found if one.low is not None and one.high is not None]
    return Series(label, [(row.weights, row.accuracy.value) for row in ordered], intervals)
