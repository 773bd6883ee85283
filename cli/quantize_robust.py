"""`compresskit quantize --robust`: from the command line to `RobustRequest`, and from the outcome to what is printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from compresskit.errors import UsageError
from compresskit.quantization.config import QuantizeConfig
from compresskit.quantization.robust.config import RobustConfig, RobustMethod, RobustRequest

from .console import Console
from .destinations import FORMATS, model_outputs
from .options import METHOD, TARGET, option, refuse_beside, refuse_without
from .results import check_outputs, data_fields, deliver, drawn_seed, files_read, model_fields, run_fields

if TYPE_CHECKING:
    from .quantize import QuantizeOptions

SUFFIX = ".robust.pt"
FLOATS = f"a robust model is one of floats, the suffix decides the format, one of {', '.join(FORMATS)}"


@dataclass(frozen=True)
class RobustOptions:
    """What makes a float model that can be quantized to any width."""

    robust: Annotated[
        bool, option(TARGET, "Train a float model that any number of bits harms little (.onnx, .pt); quantize it afterwards.", "--robust")
    ] = False
    robust_method: Annotated[
        RobustMethod, option(METHOD, "Its penalty: norm of the gradient (l1, l2), Defensive Quantization (dq).", "--robust-method", metavar="M")
    ] = RobustConfig.method
    strength: Annotated[
        float | None,
        option(METHOD, "Of that penalty; the largest that costs no accuracy on the validation split unless given.", "--strength", metavar="X"),
    ] = None


ONLY_HERE = ("robust_method", "strength")
NO_SAY = (
    *("weights", "activations", "size", "bit_ops", "sweep", "plot", "require_speedup"),
    *("method", "edges", "codebook", "calibration", "samples", "rounding", "equalize", "sensitivity", "reduce_range", "distill"),
)


def robust(console: Console, options: QuantizeOptions) -> None:
    """Do what `compresskit quantize --robust` says."""
    refuse_beside(console, "--robust", NO_SAY)
    if options.data is None:
        raise UsageError("--robust trains: give --data")
    outputs, inputs = model_outputs(options, options.model, SUFFIX, why=FLOATS), files_read(options, options.data)
    check_outputs(console, options, outputs, what="the model", inputs=inputs, drawings={})
    config = RobustConfig(
        method=options.robust_method,
        strength=options.strength,
        epochs=options.epochs,
        learning_rate=options.lr,
        batch_size=_batch_size(console, options),
        optimizer=options.optimizer,
        schedule=options.schedule,
        label_smoothing=options.label_smoothing,
        augment=options.augment,
        max_drop=options.max_drop,
        seed=drawn_seed(options.seed, options),
    )
    request = RobustRequest(
        **model_fields(console, options),
        **data_fields(options),
        **run_fields(console, options),
        config=config,
        outputs=outputs,
    )
    # Only now, so that --help and wrong options are answered at once.
    from compresskit.quantization.robust.pipeline import run

    from .robust_tables import tables

    with console.progress() as progress:
        outcome = run(request, progress)
    report, write = outcome.report, not options.dry_run
    deliver(console, options, report, tables(report), outcome.standard_output, inputs=inputs, warnings=report.warnings, write=write)
    if outcome.failure is not None:
        raise outcome.failure


def _batch_size(console: Console, options: QuantizeOptions) -> int:
    """As asked; else one that gradients of the penalty are not all noise in, larger than that of training under quantization."""
    unsaid = "batch_size" not in console.given and options.batch_size == QuantizeConfig.batch_size
    return RobustConfig.batch_size if unsaid else options.batch_size


def refuse_alone(console: Console) -> None:
    """Refuse what goes with --robust only.

    Raises:
        UsageError: something of it is there.
    """
    refuse_without(console, "--robust", ONLY_HERE)
