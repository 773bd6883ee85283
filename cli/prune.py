"""`compresskit prune`: from the command line to `PruneRequest`, and from the outcome to what is printed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from compresskit.errors import UsageError
from compresskit.pruning.config import Method, PruneConfig, Target, parse_blocks
from compresskit.pruning.curve_config import parse_curve
from compresskit.pruning.request import PruneRequest, TableRequest
from compresskit.recipes import RecipeName
from compresskit.writers import STDOUT, write_bytes

from . import options as shared
from .console import Console
from .curve import prune_curve
from .destinations import model_outputs
from .options import METHOD, TARGET, TRAINING, DataOptions, ModelOptions, ModelOutputOptions, ReportOptions, RunOptions, option, refuse_beside, takes
from .plot import draw_widths
from .results import check_outputs, check_resume, data_fields, deliver, drawn_seed, files_read, model_fields, protected, run_fields
from .targets import TargetOptions, asked_multiple, asked_sparsity, asked_target

SUFFIX = ".pruned.onnx"
# Said again here because the registries load torch; a test holds the two together.
Criterion = Literal[
    "auto", "l1", "l2", "l1-first", "l2-first", "bn-scale", "taylor", "fpgm", "lamp", "hessian", "reconstruction", "random", "uniform"
]
Normalizer = Literal["none", "mean", "max"]


@dataclass(frozen=True)
class PruneOptions(RunOptions, ReportOptions, ModelOutputOptions, DataOptions, TargetOptions, ModelOptions):
    """All that can be said to `compresskit prune`."""

    curve: Annotated[
        str | None,
        option(TARGET, "Prune to several fractions of the MACs, each into a file: 0.9..0.2, 0.9..0.2:5, 0.8,0.5.", "--curve", metavar="SPAN"),
    ] = None
    blocks: Annotated[
        str,
        option(
            METHOD,
            "What may shrink: channels, or heads (head-width: all alike), ffn of a transformer; lowrank splits layers in two.",
            "--blocks",
            metavar="B,...",
        ),
    ] = ",".join(PruneConfig.blocks)
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
    criterion: Annotated[
        Criterion,
        option(
            METHOD,
            "What makes a channel important; auto: l2, or reconstruction with --data and --epochs up to 2 (taylor, hessian need --data too).",
            "--criterion",
            metavar="C",
        ),
    ] = "auto"
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
      compresskit prune bert.onnx --flops 0.5 --blocks ffn,heads,lowrank
      compresskit prune model.onnx --curve 0.9..0.2 --data digits.npz -o curve/ --plot curve.png
      compresskit prune model.onnx --params 0.3 --data images/ -o small.onnx --report report.json --max-drop 0.01
      compresskit prune weights.pth --arch nets.py:make_net --input 3,32,32 --flops 30M --data digits.npz -o small.onnx -o small.pt
      compresskit prune weights.safetensors --arch resnet20 --sparsity 0.5 --pattern 2:4
      compresskit prune resnet20 --init --method prospr --params 0.1 --data cifar10.npz --epochs 20 -o small.onnx
      cat model.onnx | compresskit prune - --flops 0.5 -o - > small.onnx
    """
    if options.measure_table is not None:
        _measure_table(console, options, options.measure_table)
        return
    if options.curve is not None:
        prune_curve(console, options, parse_curve(options.curve), lambda target: _request(console, options, _config(options, target), ()))
        return
    check_resume(resume=options.resume, checkpoint=options.checkpoint)
    config, inputs = _config(options, asked_target(options)), files_read(options, options.data, options.table)
    outputs = model_outputs(options, options.model, SUFFIX)
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


def _config(options: PruneOptions, target: Target | None) -> PruneConfig:
    return PruneConfig.from_recipe(
        options.recipe,
        **_training(options),
        target=target,
        sparsity=asked_sparsity(options),
        pattern=options.pattern,
        blocks=parse_blocks(options.blocks),
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
        round_to=asked_multiple(options.round_to),
        distill=options.distill,
        max_drop=options.max_drop,
        seed=drawn_seed(options.seed, options),
    )


def _training(options: PruneOptions) -> dict[str, Any]:
    """What is said of training, by the names of `PruneConfig`; a recipe may say the rest."""
    said = {name: getattr(options, name) for name in ("epochs", "batch_size", "optimizer", "weight_decay", "schedule", "label_smoothing", "augment")}
    return {name: value for name, value in {**said, "learning_rate": options.lr}.items() if value is not None}


def _request(console: Console, options: PruneOptions, config: PruneConfig, outputs: tuple[str, ...]) -> PruneRequest:
    return PruneRequest(
        **model_fields(console, options),
        **data_fields(options),
        **run_fields(console, options),
        config=config,
        outputs=outputs,
        table=options.table,
    )
