"""`compresskit quantize`: from the command line to `QuantizeRequest`, and from the outcome to what is printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from compresskit.errors import UsageError
from compresskit.quantization.config import Method, QuantizeConfig, QuantizeRequest

from . import options as shared
from .console import Console
from .destinations import ONNX, ONNX_ONLY, model_outputs
from .options import METHOD, OUTPUT, TARGET, DataOptions, ModelOptions, ReportOptions, RunOptions, option, takes
from .quantize_robust import RobustOptions, refuse_alone, robust
from .quantize_sweep import SweepOptions, sweep
from .results import check_outputs, check_resume, data_fields, deliver, drawn_seed, files_read, model_fields, run_fields

# Said again here because the registry loads numpy; a test holds the two together.
Calibration = Literal["mse", "entropy", "percentile", "minmax", "moving-average"]
TRAINED = (
    *("epochs", "lr", "batch_size", "optimizer", "schedule", "label_smoothing", "augment", "distill"),
    *("checkpoint", "checkpoint_minutes", "resume", "device"),
)
"""Options that have a say only where something is trained."""


@dataclass(frozen=True)
class QuantizeOptions(RunOptions, ReportOptions, SweepOptions, RobustOptions, DataOptions, ModelOptions):
    """All that can be said to `compresskit quantize`."""

    weights: Annotated[int, option(TARGET, "Bits of a weight, 2 to 16; 4 and less are packed for storage.", "--weights", metavar="N")] = (
        QuantizeConfig.weights
    )
    activations: Annotated[
        int,
        option(TARGET, "Bits of an activation, likewise; other than 8 they are simulated.", "--activations", metavar="N"),
    ] = QuantizeConfig.activations
    edges: Annotated[
        int | None,
        option(TARGET, "Bits of the first and the last layer, and of what they read; 8 saves most of what few bits lose.", "--edges", metavar="N"),
    ] = QuantizeConfig.edges
    size: Annotated[
        float | None,
        option(TARGET, "Learn a width for each layer (2, 4, 8 bits): this fraction of float32's bytes of weights: 0.15.", "--size", metavar="F"),
    ] = None
    bit_ops: Annotated[
        float | None, option(TARGET, "Likewise of its operations times bits of weight and activation: 0.05.", "--bit-ops", metavar="F")
    ] = None
    max_drop: Annotated[
        float | None, option(TARGET, "Fail (exit 5) if the test accuracy falls by more than this: 0.01.", "--max-drop", metavar="X", min=0, max=1)
    ] = None
    require_speedup: Annotated[
        float | None,
        option(TARGET, "Fail (exit 5) if the result is not this many times as fast in ONNX Runtime: 1.2.", "--require-speedup", metavar="X"),
    ] = None
    method: Annotated[
        Method, option(METHOD, "ptq quantizes a trained model as it is; the others train it under quantization, on --data.", "--method", metavar="M")
    ] = QuantizeConfig.method
    calibration: Annotated[Calibration, option(METHOD, "How the ranges of activations are chosen.", "--calibration", metavar="HOW")] = "mse"
    samples: Annotated[int, option(METHOD, "Training samples to choose them on.", "--samples", metavar="N", min=1)] = QuantizeConfig.samples
    rounding: Annotated[
        Literal["auto", "nearest", "learned"],
        option(METHOD, "Weights to the nearest integers, or as those samples teach; auto: learned from 4 bits down.", "--rounding", metavar="HOW"),
    ] = "auto"
    equalize: Annotated[
        Literal["auto", "yes", "no"],
        option(METHOD, "Bring channels to like ranges across layers first; auto: where that lessens the noise.", "--equalize", metavar="HOW"),
    ] = "auto"
    codebook: Annotated[
        bool, option(METHOD, "Store weights (8 bits at most) as indices into numbers that k-means chose; activations stay float.", "--codebook")
    ] = False
    sensitivity: Annotated[
        bool, option(METHOD, "Measure what is lost if only one layer is quantized, for each: one more evaluation a layer.", "--sensitivity")
    ] = False
    reduce_range: Annotated[
        Literal["auto", "yes", "no"],
        option(METHOD, "7 bits in place of 8 for weights, for CPUs without VNNI; auto: where this one needs it.", "--reduce-range", metavar="HOW"),
    ] = "auto"
    output: Annotated[list[str] | None, option(OUTPUT, "Write here (.onnx); may repeat; -: standard output.", "-o", "--output", metavar="FILE")] = (
        None
    )
    stdout: Annotated[bool, option(OUTPUT, "Write the model to the standard output.", "-c", "--stdout")] = False
    epochs: shared.Epochs = QuantizeConfig.epochs
    lr: shared.LearningRate = QuantizeConfig.learning_rate
    batch_size: shared.BatchSize = QuantizeConfig.batch_size
    optimizer: shared.Optimizer = "adamw"
    schedule: shared.Schedule = "one-cycle"
    label_smoothing: shared.LabelSmoothing = QuantizeConfig.label_smoothing
    augment: shared.Augment = QuantizeConfig.augment
    distill: shared.Distill = 0.9
    checkpoint: shared.Checkpoint = None
    checkpoint_minutes: shared.CheckpointMinutes = QuantizeRequest.checkpoint_minutes
    resume: shared.Resume = False
    device: shared.Device = "auto"
    seed: shared.DrawnSeed = None
    dry_run: shared.DryRun = False


@takes(QuantizeOptions)
def quantize(console: Console, options: QuantizeOptions) -> None:
    """Turn a model's weights and activations into integers; check that it is right and measure whether it is faster; write ONNX.

    Examples:
      compresskit quantize model.onnx --data images/
      compresskit quantize model.onnx
      compresskit quantize net.pt --data digits.npz --max-drop 0.01 --require-speedup 1.2 -o net.int8.onnx --report report.json
      compresskit quantize model.onnx --weights 4
      compresskit quantize net.pt --weights 4 --activations 4 --method lsq --data digits.npz --epochs 5 -o net.w4a4.onnx
      compresskit quantize net.pt --size 0.15 --data digits.npz
      compresskit quantize net.pt --robust --data digits.npz -o robust.pt
      compresskit quantize robust.pt --sweep 8,6,5,4,3 --data digits.npz --plot sweep.png
      cat model.onnx | compresskit quantize - --data digits.npz -o - > model.int8.onnx
    """
    check_resume(resume=options.resume, checkpoint=options.checkpoint)
    if options.robust:
        robust(console, options)
        return
    refuse_alone(console)
    if options.sweep is not None:
        shared.refuse_beside(console, "--sweep", TRAINED)
        sweep(console, options, _config(options), options.sweep)
        return
    shared.refuse_without(console, "--sweep", ("plot",))
    _quantize(console, options)


def _quantize(console: Console, options: QuantizeOptions) -> None:
    """One model at one width, or at widths that are learned."""
    target = "--size" if options.size is not None else "--bit-ops" if options.bit_ops is not None else None
    if target is not None:
        shared.refuse_beside(console, target, ("weights", "edges", "rounding", "codebook", "sensitivity"))
        if options.data is None:
            raise UsageError(f"{target} learns widths: give --data")
    elif options.method == "ptq":
        shared.refuse_without(console, "--method uniform, ste, dorefa or lsq", TRAINED)
    elif options.data is None:
        raise UsageError(f"--method {options.method} trains: give --data")
    else:
        shared.refuse_beside(console, f"--method {options.method}", ("rounding", "codebook"))
    if options.data is None:
        shared.refuse_without(console, "--data", ("activations", "edges", "calibration", "samples", "rounding", "sensitivity"))
    if options.codebook:
        shared.refuse_beside(console, "--codebook", ("activations", "edges", "calibration", "samples", "rounding", "reduce_range"))
    outputs = model_outputs(options, options.model, f".{_width(options)}{ONNX}", formats=(ONNX,), why=ONNX_ONLY)
    check_outputs(console, options, outputs, what="the model", inputs=files_read(options, options.data), drawings={})
    request = _request(console, options, outputs)
    # Only now, so that --help and wrong options are answered at once.
    from compresskit.quantization.pipeline import run

    from .quantize_tables import report_tables

    with console.progress() as progress:
        outcome = run(request, progress)
    report = outcome.report
    tables = report_tables(report, verbose=options.verbose > 0)
    write = not options.dry_run
    deliver(
        console,
        options,
        report,
        tables,
        outcome.standard_output,
        inputs=files_read(options, options.data),
        warnings=report.warnings,
        write=write,
    )
    if outcome.failure is not None:
        raise outcome.failure


def _width(options: QuantizeOptions) -> str:
    """int8, or w4a8, or w4 where activations stay as they are, or mixed where widths are learned."""
    if options.size is not None or options.bit_ops is not None:
        return "mixed"
    if options.codebook:
        return f"w{options.weights}-codebook"
    if options.data is None:
        return "int8" if options.weights == 8 else f"w{options.weights}"
    return "int8" if (options.weights, options.activations) == (8, 8) else f"w{options.weights}a{options.activations}"


def _config(options: QuantizeOptions) -> QuantizeConfig:
    return QuantizeConfig(
        weights=options.weights,
        activations=options.activations,
        method=options.method,
        size=options.size,
        bit_ops=options.bit_ops,
        edges=options.edges,
        calibration=options.calibration,
        samples=options.samples,
        rounding=options.rounding,
        equalize=options.equalize,
        codebook=options.codebook,
        sensitivity=options.sensitivity,
        reduce_range={"auto": None, "yes": True, "no": False}[options.reduce_range],
        max_drop=options.max_drop,
        require_speedup=options.require_speedup,
        epochs=options.epochs,
        learning_rate=options.lr,
        batch_size=options.batch_size,
        optimizer=options.optimizer,
        schedule=options.schedule,
        label_smoothing=options.label_smoothing,
        augment=options.augment,
        distill=options.distill,
        seed=drawn_seed(options.seed, options),
    )


def _request(console: Console, options: QuantizeOptions, outputs: tuple[str, ...]) -> QuantizeRequest:
    return QuantizeRequest(
        **model_fields(console, options),
        **data_fields(options),
        **run_fields(console, options),
        config=_config(options),
        outputs=outputs,
    )
