"""`compresskit metaprune`: from the command line to `MetapruneRequest`, and from the outcome to what is printed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from compresskit.errors import UsageError
from compresskit.metaprune.config import MetapruneConfig, MetapruneRequest
from compresskit.pruning.config import PruneConfig, Target
from compresskit.writers import write_bytes

from . import options as shared
from .console import Console
from .destinations import model_outputs
from .metatrain import TRAINING_ONLY, MetatrainOptions, metatrain
from .options import (
    METHOD,
    OUTPUT,
    TARGET,
    TRAINING,
    DataOptions,
    ModelOptions,
    ModelOutputOptions,
    ReportOptions,
    RunOptions,
    numbers,
    option,
    refuse_beside,
    refuse_without,
    takes,
)
from .plot import Series, draw_curves
from .results import check_outputs, check_resume, data_fields, deliver, drawn_seed, files_read, model_fields, protected, run_fields
from .targets import TargetOptions, asked_multiple, asked_sparsity, asked_target

if TYPE_CHECKING:
    from compresskit.metaprune.reports import MetapruneReport

SUFFIX = ".metapruned.onnx"
PRUNING_ONLY = frozenset(
    {
        *("flops", "params", "size", "latency", "speedup", "sparsity", "pattern", "max_drop", "table"),
        *("metanetwork", "initial", "explain", "floor", "round_to", "scope", "distill", "label_smoothing", "optimizer", "schedule"),
        *("stdout", "dry_run"),
    }
)
"""Options that have no say in --train."""
DEFAULT_EPOCHS = (1.0, MetapruneConfig.epochs, 3.0)


@dataclass(frozen=True)
class MetapruneOptions(MetatrainOptions, RunOptions, ReportOptions, ModelOutputOptions, DataOptions, TargetOptions, ModelOptions):
    """All that can be said to `compresskit metaprune`."""

    speedup: Annotated[float | None, option(TARGET, "Make it this many times as fast, counted in MACs: 2.9.", "--speedup", metavar="X")] = None
    metanetwork: Annotated[
        str | None, option(METHOD, "Use this metanetwork, which --train wrote, in place of the one that ships.", "--metanetwork", metavar="FILE")
    ] = None
    initial: Annotated[
        float, option(METHOD, "Prune to this speed-up first, for a network that is easy to prune: 1.3.", "--initial", metavar="X", min=1)
    ] = MetapruneConfig.initial
    scope: Annotated[
        Literal["global", "layer"], option(METHOD, "Compare channels across the model, or cut every layer alike.", "--scope", metavar="WHERE")
    ] = "global"
    floor: Annotated[float | None, option(METHOD, "Least fraction of a layer's channels to keep: 0.1.", "--floor", metavar="F", min=0)] = None
    round_to: Annotated[
        str | None,
        option(METHOD, "Multiple to keep widths at; auto: as measured here; else 8, or less if the target needs it.", "--round-to", metavar="N|auto"),
    ] = None
    explain: Annotated[bool, option(OUTPUT, "List how large and how sensitive each layer is, before and after the metanetwork.", "--explain")] = False
    plot: Annotated[
        str | None, option(OUTPUT, "Draw accuracy against speed-up, before and after the metanetwork (.png, .svg, .pdf).", "--plot", metavar="FILE")
    ] = None
    epochs: Annotated[
        str | None,
        option(
            TRAINING,
            "Passes over the data after the metanetwork and after pruning (2,3); with --initial three numbers; with --train one.",
            "--epochs",
            metavar="E,..",
        ),
    ] = None
    lr: shared.LearningRate = PruneConfig.learning_rate
    batch_size: Annotated[int | None, option(TRAINING, "Samples a step (128; 250 with --train).", "--batch-size", metavar="B", min=1)] = None
    optimizer: shared.Optimizer = PruneConfig.optimizer
    schedule: shared.Schedule = "one-cycle"
    label_smoothing: shared.LabelSmoothing = PruneConfig.label_smoothing
    augment: shared.Augment = PruneConfig.augment
    distill: shared.Distill = PruneConfig.distill
    checkpoint: shared.Checkpoint = MetapruneRequest.checkpoint
    checkpoint_minutes: shared.CheckpointMinutes = MetapruneRequest.checkpoint_minutes
    resume: shared.Resume = MetapruneRequest.resume
    device: shared.Device = "auto"
    seed: shared.DrawnSeed = None
    dry_run: shared.DryRun = False


@takes(MetapruneOptions)
def metaprune(console: Console, options: MetapruneOptions) -> None:
    """Let a graph network rewrite a model so that more of it can be cut; train it, cut it, train what is left; write ONNX.

    Examples:
      compresskit metaprune model.onnx --flops 0.35 --data digits.npz
      compresskit metaprune model.onnx --speedup 2.9 --data cifar10.npz --epochs 10,20 -o small.onnx --plot curve.png
      compresskit metaprune model.pt --sparsity 0.5 --pattern 2:4 --data cifar10.npz
      compresskit metaprune --train --models nets/a.pt nets/b.pt --data cifar10.npz -o meta.safetensors
      compresskit metaprune model.onnx --speedup 2 --data cifar10.npz --metanetwork meta.safetensors --explain
    """
    if options.train:
        refuse_beside(console, "--train", PRUNING_ONLY)
        metatrain(console, options)
        return
    refuse_without(console, "--train", TRAINING_ONLY)
    if options.more:
        raise UsageError(f"{options.more[0]}: more networks go with --train: name one")
    outputs, inputs = model_outputs(options, options.model, SUFFIX), files_read(options, options.data, options.metanetwork)
    check_outputs(console, options, outputs, what="the model", inputs=inputs, drawings={"--plot": options.plot})
    request = _request(console, options, outputs)
    # Only now, so that --help and wrong options are answered at once.
    from compresskit.metaprune.pipeline import run

    from .metaprune_tables import metaprune_tables

    with console.progress() as progress:
        outcome = run(request, progress)
    report, write = outcome.report, not options.dry_run
    if options.plot and write:
        write_bytes(Path(options.plot), _drawing(report, options), force=options.force, protect=protected(inputs))
    tables = metaprune_tables(report, verbose=options.verbose > 0)
    deliver(console, options, report, tables, outcome.standard_output, inputs=inputs, warnings=report.warnings, write=write)
    if outcome.failure is not None:
        raise outcome.failure


def _request(console: Console, options: MetapruneOptions, outputs: tuple[str, ...]) -> MetapruneRequest:
    check_resume(resume=options.resume, checkpoint=options.checkpoint)
    initial, rewriting, pruning = _epochs(options)
    return MetapruneRequest(
        **model_fields(console, options),
        **data_fields(options),
        **run_fields(console, options),
        config=_config(options, pruning),
        meta=MetapruneConfig(rewriting, options.initial, initial, curve=options.plot is not None, explain=options.explain),
        metanetwork=options.metanetwork,
        outputs=outputs,
    )


def _config(options: MetapruneOptions, epochs: float) -> PruneConfig:
    if options.criterion == "weights":
        raise UsageError("--criterion weights is for --train: channels are cut by a norm")
    return PruneConfig(
        target=_target(options),
        sparsity=asked_sparsity(options),
        pattern=options.pattern,
        criterion=options.criterion,
        scope=options.scope,
        normalize=options.normalize,
        floor=options.floor,
        round_to=asked_multiple(options.round_to),
        epochs=epochs,
        batch_size=options.batch_size or PruneConfig.batch_size,
        optimizer=options.optimizer,
        learning_rate=options.lr,
        schedule=options.schedule,
        label_smoothing=options.label_smoothing,
        augment=options.augment,
        distill=options.distill,
        max_drop=options.max_drop,
        seed=drawn_seed(options.seed, options),
    )


def _target(options: MetapruneOptions) -> Target | None:
    """As --flops and the like say, or --speedup."""
    target = asked_target(options)
    if options.speedup is None:
        return target
    if target is not None:
        raise UsageError(f"--speedup and --{target.quantity} contradict each other: give one target")
    if not options.speedup > 1:
        raise UsageError(f"--speedup takes a number above 1, not {options.speedup:g}")
    return Target("flops", 1 / options.speedup)


def _epochs(options: MetapruneOptions) -> tuple[float, float, float]:
    """Training after the initial pruning, after the metanetwork and after pruning."""
    if options.epochs is None:
        return DEFAULT_EPOCHS if options.initial > 1 else (0.0, *DEFAULT_EPOCHS[1:])
    given = numbers(options.epochs, "--epochs", "10,20") or ()
    wanted = 3 if options.initial > 1 else 2
    if len(given) != wanted or min(given) < 0:
        raise UsageError(f"--epochs {options.epochs}: expected {'three numbers with --initial' if wanted == 3 else 'two numbers'}, such as 2,3")
    first, second, third = (0.0, *given) if wanted == 2 else given
    return first, second, third


def _drawing(report: MetapruneReport, options: MetapruneOptions) -> bytes:
    """The curves, as a file of the kind that --plot names."""
    curves = (("original", report.curve_before), ("with the metanetwork, trained", report.curve_after))
    series = [Series(label, [(point.speedup, point.accuracy) for point in curve]) for label, curve in curves]
    title = f"{Path(report.model.source).name}, cut without training"
    return draw_curves(series, Path(str(options.plot)).suffix, title=title, x="speed-up (MACs)", y="accuracy on the validation split")
