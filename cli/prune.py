"""`compresskit prune`: from the command line to `PruneRequest`, and from the outcome to what is printed."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from compresskit.errors import UsageError
from compresskit.pruning.config import Method, PruneConfig, PruneRequest, Quantity, TableRequest, Target, parse_pattern, parse_target
from compresskit.recipes import RecipeName
from compresskit.runtime import SEED_LIMIT
from compresskit.writers import STDOUT, write_bytes

from . import options as shared
from .console import Console
from .options import METHOD, TARGET, TRAINING, DataOptions, ModelOptions, ModelOutputOptions, ReportOptions, RunOptions, option, refuse_beside, takes
from .plot import check_plot, draw_widths
from .results import beside, check_outputs, data_fields, deliver, files_read, model_fields, protected

SUFFIX = ".pruned.onnx"
FORMATS = (".onnx", ".pt", ".safetensors")
# Said again here because the registries load torch; a test holds the two together.
Criterion = Literal["l1", "l2", "l1-first", "l2-first", "bn-scale", "taylor", "fpgm", "lamp", "hessian", "random", "uniform"]
Normalizer = Literal["none", "mean", "max"]


@dataclass(frozen=True)
class PruneOptions(RunOptions, ReportOptions, ModelOutputOptions, DataOptions, ModelOptions):
    """All that can be said to `compresskit prune`."""

    flops: Annotated[str | None, option(TARGET, "Keep this much of the multiply-accumulates: 0.5, or 30M.", "--flops", metavar="T")] = None
    params: Annotated[str | None, option(TARGET, "Keep this much of the parameters, likewise.", "--params", metavar="T")] = None
    size: Annotated[str | None, option(TARGET, "Keep this much of the bytes of the weights: 0.5, 1.5MB.", "--size", metavar="T")] = None
    latency: Annotated[str | None, option(TARGET, "Keep this much of the latency in ONNX Runtime: 0.6, or 5ms.", "--latency", metavar="T")] = None
    sparsity: Annotated[
        float | None, option(TARGET, "Set this fraction of the weights to zero in place of cutting channels.", "--sparsity", metavar="S")
    ] = None
    pattern: Annotated[
        str | None, option(TARGET, "Zero weights in place of cutting channels: unstructured, or N of every M stay (2:4).", "--pattern", metavar="P")
    ] = None
    max_drop: Annotated[
        float | None, option(TARGET, "Fail (exit 5) if the test accuracy falls by more than this: 0.01.", "--max-drop", metavar="X", min=0, max=1)
    ] = None
    method: Annotated[
        Method,
        option(
            METHOD,
            "What chooses: --criterion (classic), masks that learn widths from --data (l1l2), or what matters before training (the others).",
            "--method",
            metavar="M",
        ),
    ] = PruneConfig.method
    init: Annotated[bool, option(METHOD, "The model is an architecture: prune it at initialization by --method, and train it then.", "--init")] = (
        PruneConfig.init
    )
    compute_aware: Annotated[bool, option(METHOD, "Weigh 3sp, prospr and the like by the MACs that a channel costs.", "--compute-aware")] = (
        PruneConfig.compute_aware
    )
    smoothing: Annotated[
        float, option(METHOD, "Added to the shares of the MACs that --compute-aware divides by.", "--smoothing", metavar="X", min=0)
    ] = PruneConfig.smoothing
    inner_steps: Annotated[
        int | None, option(METHOD, "Training steps that prospr looks ahead; 3 unless given.", "--inner-steps", metavar="M", min=0)
    ] = PruneConfig.inner_steps
    first_order: Annotated[bool, option(METHOD, "Spare prospr second derivatives: for hundreds of steps.", "--first-order")] = PruneConfig.first_order
    rescale: Annotated[bool, option(METHOD, "With --init: bring the variance of the weights that stay back.", "--rescale")] = PruneConfig.rescale
    reinit: Annotated[bool, option(METHOD, "With --init: draw the weights anew after the cut.", "--reinit")] = PruneConfig.reinit
    criterion: Annotated[Criterion, option(METHOD, "What makes a channel important; taylor, hessian need --data.", "--criterion", metavar="C")] = "l2"
    scope: Annotated[
        Literal["global", "layer"] | None,
        option(METHOD, "Compare channels across the model (global), or cut every layer alike (layer; classic does).", "--scope", metavar="WHERE"),
    ] = PruneConfig.scope
    normalize: Annotated[
        Normalizer, option(METHOD, "What a layer's scores are divided by before they are compared.", "--normalize", metavar="HOW")
    ] = "mean"
    floor: Annotated[
        float | None,
        option(METHOD, "Least fraction of a layer's channels to keep: 0.1, and before training one channel.", "--floor", metavar="F", min=0),
    ] = PruneConfig.floor
    steps: Annotated[int, option(METHOD, "Cuts on the way to the target, training between them.", "--steps", metavar="N", min=1)] = PruneConfig.steps
    round_to: Annotated[
        str | None,
        option(
            METHOD,
            "Multiple to keep widths at; auto: as measured here; else 8, or less if the target needs it.",
            "--round-to",
            metavar="N|auto",
        ),
    ] = None
    table: Annotated[
        str | None, option(METHOD, "Latency table of another machine for --latency; else this one is measured.", "--table", metavar="FILE")
    ] = None
    measure_table: Annotated[
        str | None, option(METHOD, "Measure the model's operators here into a latency table, and do nothing else.", "--measure-table", metavar="FILE")
    ] = None
    recipe: Annotated[
        RecipeName | None,
        option(
            TRAINING,
            "Train as the thesis does, or on two cores (short); what is given below wins.",
            "--recipe",
            metavar="NAME",
        ),
    ] = None
    # None: as the recipe has it, else as `PruneConfig` has it.
    epochs: Annotated[float | None, option(TRAINING, "Passes over the training data (5); 0: do not train.", "--epochs", metavar="E", min=0)] = None
    lr: shared.LearningRate = PruneConfig.learning_rate
    batch_size: Annotated[int | None, option(TRAINING, "Samples a step (128).", "--batch-size", metavar="B", min=1)] = None
    optimizer: Annotated[Literal["sgd", "adamw"] | None, option(TRAINING, "Optimizer (sgd).", "--optimizer", metavar="NAME")] = None
    weight_decay: Annotated[float | None, option(TRAINING, "Weight decay (5e-4).", "--weight-decay", metavar="W", min=0)] = None
    schedule: Annotated[
        Literal["one-cycle", "cosine", "multistep", "constant"] | None,
        option(TRAINING, "Of the learning rate (one-cycle).", "--schedule", metavar="NAME"),
    ] = None
    label_smoothing: Annotated[float | None, option(TRAINING, "Label smoothing (0).", "--label-smoothing", metavar="E", min=0, max=1)] = None
    augment: Annotated[
        Literal["auto", "none", "crop-flip"] | None,
        option(TRAINING, "Change the images while training; auto (the default): where mirror images keep their class.", "--augment", metavar="HOW"),
    ] = None
    distill: shared.Distill = PruneConfig.distill
    checkpoint: shared.Checkpoint = PruneRequest.checkpoint
    checkpoint_minutes: shared.CheckpointMinutes = PruneRequest.checkpoint_minutes
    resume: shared.Resume = PruneRequest.resume
    device: shared.Device = "auto"
    seed: shared.DrawnSeed = None
    dry_run: shared.DryRun = False


@takes(PruneOptions)
def prune(console: Console, options: PruneOptions) -> None:
    """Cut channels out of a model, or set weights to zero; train what is left; write ONNX.

    Examples:
      compresskit prune model.onnx --flops 0.5
      compresskit prune model.onnx --latency 0.6 --data digits.npz
      compresskit prune model.onnx --params 0.3 --data images/ -o small.onnx --report report.json --max-drop 0.01
      compresskit prune weights.pth --arch nets.py:make_net --input 3,32,32 --flops 30M --data digits.npz -o small.onnx -o small.pt
      compresskit prune weights.safetensors --arch resnet20 --sparsity 0.5 --pattern 2:4
      compresskit prune resnet20 --init --method prospr --params 0.1 --data cifar10.npz --epochs 20 -o small.onnx
      cat model.onnx | compresskit prune - --flops 0.5 -o - > small.onnx
    """
    if options.measure_table is not None:
        _measure_table(console, options, options.measure_table)
        return
    config, inputs = _config(options), files_read(options.model, options.data, options.table)
    outputs = _outputs(options)
    check_outputs(console, options, outputs, what="the model", inputs=inputs, drawings={"--plot": options.plot})
    request = _request(console, options, config, outputs)
    # Only now, so that --help and wrong options are answered at once.
    from compresskit.pruning.pipeline import run

    from .tables import report_tables

    with console.progress() as progress:
        outcome = run(request, progress)
    report, write = outcome.report, not options.dry_run
    if options.plot and write:
        drawing = draw_widths(report, Path(options.plot).suffix)
        write_bytes(Path(options.plot), drawing, force=options.force, protect=protected(inputs))
    tables = report_tables(report, verbose=options.verbose > 0)
    deliver(console, options, report, tables, outcome.standard_output, inputs=inputs, warnings=report.warnings, write=write)
    if outcome.failure is not None:
        raise outcome.failure


def _measure_table(console: Console, options: PruneOptions, output: str) -> None:
    """Write a latency table, and say what it holds.

    Raises:
        UsageError: something else is asked for as well, or the table would not go to a file.
    """
    served = {field.name for part in (ModelOptions, ReportOptions, RunOptions) for field in fields(part)} | {"measure_table"}
    refuse_beside(console, "--measure-table", {field.name for field in fields(PruneOptions)} - served)
    check_outputs(console, options, (output,), what="the table", inputs=(options.model,), drawings={})
    if output == STDOUT:
        raise UsageError("--measure-table takes a file: name one")
    request = TableRequest(**model_fields(console, options), output=output, threads=options.threads, force=options.force)
    from compresskit.pruning.tabulate import tabulate

    from .tables import latency_lines

    with console.progress() as progress:
        table = tabulate(request, progress)
    deliver(console, options, table, latency_lines(table, output), inputs=(options.model,))


def _outputs(options: PruneOptions) -> tuple[str, ...]:
    """Where the model goes: as asked, else `<stem>.pruned.onnx` beside the input, else the standard output for a piped input.

    Raises:
        UsageError: a suffix that stands for no format, or a drawing that cannot be made.
    """
    asked = (*(options.output or ()), *((STDOUT,) if options.stdout else ()))
    for name in asked:
        if name != STDOUT and Path(name).suffix.lower() not in FORMATS and not Path(name).is_char_device():
            raise UsageError(f"cannot write {name}: the suffix decides the format, one of {', '.join(FORMATS)}")
    if options.plot and options.plot != STDOUT:
        check_plot(Path(options.plot), "--plot")
    if asked or options.model == STDOUT:
        return asked or (STDOUT,)
    factory = options.model.rpartition(":")[2] if ":" in options.model and not Path(options.model).is_file() else ""
    return (beside(options.model, (factory or Path(options.model).stem) + SUFFIX),)


def _config(options: PruneOptions) -> PruneConfig:
    if options.resume and options.checkpoint is None:
        raise UsageError("--resume goes with --checkpoint: say which file to go on from")
    return PruneConfig.from_recipe(
        options.recipe,
        **_training(options),
        target=_target(options),
        sparsity=_sparsity(options),
        pattern=options.pattern,
        method=options.method,
        init=options.init,
        compute_aware=options.compute_aware,
        smoothing=options.smoothing,
        inner_steps=options.inner_steps,
        first_order=options.first_order,
        rescale=options.rescale,
        reinit=options.reinit,
        criterion=options.criterion,
        scope=options.scope,
        normalize=options.normalize,
        floor=options.floor,
        steps=options.steps,
        round_to=_multiple(options.round_to),
        distill=options.distill,
        max_drop=options.max_drop,
        seed=secrets.randbelow(SEED_LIMIT) if options.seed is None else options.seed,
    )


def _training(options: PruneOptions) -> dict[str, Any]:
    """What is said of training, by the names of `PruneConfig`; a recipe may say the rest."""
    said = {name: getattr(options, name) for name in ("epochs", "batch_size", "optimizer", "weight_decay", "schedule", "label_smoothing", "augment")}
    return {name: value for name, value in {**said, "learning_rate": options.lr}.items() if value is not None}


def _request(console: Console, options: PruneOptions, config: PruneConfig, outputs: tuple[str, ...]) -> PruneRequest:
    return PruneRequest(
        **model_fields(console, options),
        **data_fields(options),
        config=config,
        outputs=outputs,
        device=options.device,
        threads=options.threads,
        force=options.force,
        checkpoint=options.checkpoint,
        resume=options.resume,
        checkpoint_minutes=options.checkpoint_minutes,
        table=options.table,
        dry_run=options.dry_run,
        arguments=console.arguments,
    )


def _target(options: PruneOptions) -> Target | None:
    asked: dict[Quantity, str | None] = {"flops": options.flops, "params": options.params, "size": options.size, "latency": options.latency}
    targets = [parse_target(quantity, text) for quantity, text in asked.items() if text is not None]
    if len(targets) > 1:
        raise UsageError(f"--{targets[0].quantity} and --{targets[1].quantity} contradict each other: give one target")
    return targets[0] if targets else None


def _sparsity(options: PruneOptions) -> float | None:
    """As asked, or what the pattern alone says: half of the weights for 2:4."""
    if options.pattern is None or options.sparsity is not None:
        return options.sparsity
    if (pattern := parse_pattern(options.pattern)) is not None:
        return 1 - pattern[0] / pattern[1]
    if options.params is None:
        raise UsageError("--pattern unstructured needs --sparsity or --params: say what goes, or stays")
    return None


def _multiple(text: str | None) -> int | None:
    if text is None:
        return None
    if text == "auto":
        return 0
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--round-to {text!r}: expected a positive whole number, or auto")
    return int(text)
