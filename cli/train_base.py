"""`compresskit encode --train-base`: from the command line to `TrainBaseRequest`, and from the report to what is printed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from compresskit.codec.config import EncodeConfig, TrainBaseRequest
from compresskit.errors import UsageError
from compresskit.writers import STDOUT, check_target

from . import options as shared
from .console import Console
from .options import DATA, METHOD, RUN, TRAINING, ReportOptions, RunOptions, option
from .results import check_outputs, check_resume, deliver

# Said again here because the library's table loads torch; a test holds the two together.
Modality = Literal["image", "gray", "audio", "volume", "globe"]
TRAINING_ONLY = frozenset({"modality", "latents", "width", "depth", "checkpoint", "resume"})
"""Options that have no say without --train-base."""


@dataclass(frozen=True)
class TrainBaseOptions(RunOptions, ReportOptions):
    """How a base network is trained. The variable, steps, seed and the limit on bytes serve encoding too."""

    train_base: Annotated[
        bool, option(TRAINING, "Train a base network on the files, and those in the folders, that FILE... names.", "--train-base")
    ] = False
    modality: Annotated[Modality | None, option(TRAINING, "What the base network is for.", "--modality", metavar="KIND")] = None
    latents: Annotated[int | None, option(TRAINING, "Length of a latent vector.", "--latents", metavar="N", min=1)] = None
    width: Annotated[int | None, option(TRAINING, "Width of the network's layers.", "--width", metavar="N", min=1)] = TrainBaseRequest.width
    depth: Annotated[int | None, option(TRAINING, "How many layers of sines.", "--depth", metavar="N", min=1)] = TrainBaseRequest.depth
    checkpoint: shared.Checkpoint = TrainBaseRequest.checkpoint
    resume: shared.Resume = TrainBaseRequest.resume
    var: Annotated[str | None, option(DATA, "Which variable of a climate file.", "--var", metavar="NAME")] = None
    steps: Annotated[int | None, option(METHOD, "Steps of COIN's fit; of the training with --train-base.", "--steps", metavar="N", min=1)] = None
    seed: Annotated[int, option(RUN, "Seed of everything random.", "--seed", metavar="N", min=0)] = EncodeConfig.seed
    max_bytes: shared.MaxBytes = None


def train_base(console: Console, options: TrainBaseOptions, inputs: tuple[str, ...], output: str | None) -> None:
    """Train a base network on `inputs`, files and folders, and write it to `output`."""
    request = _request(console, options, inputs, output)
    check_outputs(console, options, (request.output,), what="the base network", inputs=inputs, drawings={})
    from compresskit.codec.training import train_base as run
    from compresskit.codec.training import training_files
    from compresskit.training.ranks import leads

    from .signals import training_tables

    if options.report:
        # The folders among the inputs hold files that a report must not replace either.
        check_target(Path(options.report), force=options.force, protect=training_files(inputs))
    with console.progress() as progress:
        report = run(request, progress)
    if leads():
        deliver(console, options, report, training_tables(report, verbose=options.verbose > 0), inputs=inputs)


def _request(console: Console, options: TrainBaseOptions, inputs: tuple[str, ...], output: str | None) -> TrainBaseRequest:
    if options.modality is None:
        raise UsageError(f"--train-base goes with --modality: say what the base network is for, one of {', '.join(get_args(Modality))}")
    if output in (None, STDOUT):
        raise UsageError("--train-base writes a file: name it with -o, such as -o brain.base.safetensors")
    if STDOUT in inputs:
        raise UsageError("--train-base reads files and folders, not the standard input")
    check_resume(resume=options.resume, checkpoint=options.checkpoint)
    return TrainBaseRequest(
        inputs=inputs,
        modality=options.modality,
        output=str(output),
        variable=options.var,
        steps=options.steps,
        latents=options.latents,
        width=options.width,
        depth=options.depth,
        seed=options.seed,
        checkpoint=options.checkpoint,
        resume=options.resume,
        max_bytes=shared.byte_count(options.max_bytes, "--max-bytes"),
        threads=options.threads or 0,
        force=options.force,
        arguments=console.arguments,
    )
