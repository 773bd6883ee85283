"""`compresskit metaprune --train`: from the command line to `MetatrainRequest`, and from the report to what is printed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compresskit.errors import UsageError
from compresskit.metaprune.config import MetatrainConfig, MetatrainRequest, Normalizer, Pressed
from compresskit.writers import STDOUT, write_bytes

from .console import Console
from .options import METHOD, TRAINING, option
from .plot import Series, draw_curves
from .results import check_outputs, check_resume, data_fields, deliver, drawn_seed, files_read, model_fields, protected, run_fields

if TYPE_CHECKING:
    from .metaprune import MetapruneOptions

TRAINING_ONLY = frozenset({"accumulate", "milestones", "pruner_reg", "alpha", "relative", "layers", "width", "scale", "tolerance", "tuning"})
"""Options that have no say without --train."""
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class MetatrainOptions:
    """How a metanetwork is trained. Epochs, rate, batch size, seed and the like serve pruning too."""

    more: Annotated[list[str] | None, typer.Argument(metavar="[MODEL...]", help="Further networks to learn from, with --train.")] = None
    train: Annotated[bool, option(METHOD, "Train a metanetwork on the networks MODEL... in place of pruning one.", "--train", "--models")] = False
    criterion: Annotated[
        Pressed,
        option(METHOD, "The norm that channels are cut by; with --train what is made small, or weights.", "--criterion", metavar="C"),
    ] = MetatrainConfig.criterion
    normalize: Annotated[Normalizer, option(METHOD, "What the norms of a layer are divided by.", "--normalize", metavar="HOW")] = (
        MetatrainConfig.normalize
    )
    alpha: Annotated[
        float, option(METHOD, "With --train: how much harder small channels are pressed down, in powers of 2.", "--alpha", metavar="A", min=0)
    ] = MetatrainConfig.alpha
    relative: Annotated[
        bool,
        option(METHOD, "With --train: press channels down beside the others of their layer, or all alike, as in the paper.", "--relative/--absolute"),
    ] = MetatrainConfig.relative
    scale: Annotated[float, option(METHOD, "With --train: of what the metanetwork adds to weights.", "--scale", metavar="X")] = MetatrainConfig.scale
    pruner_reg: Annotated[float, option(METHOD, "With --train: weight of the sparsity loss.", "--pruner-reg", metavar="W", min=0)] = (
        MetatrainConfig.pruner_reg
    )
    layers: Annotated[int, option(METHOD, "With --train: layers of the metanetwork.", "--layers", metavar="N", min=1)] = MetatrainConfig.layers
    width: Annotated[int, option(METHOD, "With --train: hidden dimensions of the metanetwork.", "--width", metavar="N", min=1)] = (
        MetatrainConfig.width
    )
    accumulate: Annotated[int, option(TRAINING, "With --train: batches that make an update.", "--accumulate", metavar="N", min=1)] = (
        MetatrainConfig.accumulate
    )
    milestones: Annotated[
        str | None, option(TRAINING, "With --train: epochs after which the rate is divided by ten: 3,10.", "--milestones", metavar="E,..")
    ] = None
    tolerance: Annotated[
        float, option(TRAINING, "With --train: accuracy that a longer flat part may cost.", "--tolerance", metavar="X", min=0, max=1)
    ] = MetatrainConfig.tolerance
    tuning: Annotated[float, option(TRAINING, "With --train: epochs of training before an epoch is judged.", "--tuning", metavar="E", min=0)] = (
        MetatrainConfig.tuning
    )


def metatrain(console: Console, options: MetapruneOptions) -> None:
    """Train a metanetwork and write the one of its best epoch."""
    networks = (options.model, *(options.more or ()))
    request = _request(console, options, networks)
    inputs = files_read(options, options.data, *networks[1:])
    check_outputs(console, options, (request.output,), what="the metanetwork", inputs=inputs, drawings={"--plot": options.plot})
    from compresskit.metaprune.meta_pipeline import run
    from compresskit.training.ranks import leads

    from .metaprune_tables import metatrain_tables

    with console.progress() as progress:
        report = run(request, progress)
    if not leads():
        return
    if options.plot:
        curves = [Series("without", [(point.speedup, point.accuracy) for point in report.original])]
        curves += [Series(f"epoch {one.epoch}", [(point.speedup, point.accuracy) for point in one.curve]) for one in report.judged]
        drawing = draw_curves(curves, Path(options.plot).suffix, title=Path(request.output).name, x="speed-up", y="validation accuracy, untrained")
        write_bytes(Path(options.plot), drawing, force=options.force, protect=protected(inputs))
    deliver(console, options, report, metatrain_tables(report), inputs=inputs, warnings=report.warnings)


def _request(console: Console, options: MetapruneOptions, networks: tuple[str, ...]) -> MetatrainRequest:
    if STDOUT in networks:
        raise UsageError("--train learns from networks in files: name them")
    if options.data is None:
        raise UsageError("--train needs the data that the networks were trained on: give --data")
    if len(options.output or ()) != 1 or options.stdout or not str(options.output[0]).endswith(SUFFIX):  # type: ignore[index]
        raise UsageError(f"--train writes one file: name it with -o, such as -o meta{SUFFIX}")
    check_resume(resume=options.resume, checkpoint=options.checkpoint)
    assert options.output is not None
    return MetatrainRequest(
        **{**model_fields(console, options), "model": networks[0]},
        **data_fields(options),
        **run_fields(console, options),
        config=_config(options),
        others=networks[1:],
        output=options.output[0],
    )


def _config(options: MetapruneOptions) -> MetatrainConfig:
    said = {
        "epochs": None if options.epochs is None else _whole(options.epochs, "--epochs"),
        "batch_size": options.batch_size,
        "learning_rate": options.lr,
        "milestones": None if options.milestones is None else tuple(_whole(entry, "--milestones") for entry in options.milestones.split(",")),
        "augment": None if options.augment == "auto" else options.augment,
    }
    return MetatrainConfig(
        **{name: value for name, value in said.items() if value is not None},  # type: ignore[arg-type]
        accumulate=options.accumulate,
        pruner_reg=options.pruner_reg,
        criterion=options.criterion,
        normalize=options.normalize,
        alpha=options.alpha,
        relative=options.relative,
        layers=options.layers,
        width=options.width,
        scale=options.scale,
        tolerance=options.tolerance,
        tuning=options.tuning,
        seed=drawn_seed(options.seed, options),
    )


def _whole(text: str, name: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise UsageError(f"{name} {text!r}: expected whole numbers of epochs in --train")
    return int(text)
