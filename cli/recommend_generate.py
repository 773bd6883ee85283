"""`compresskit recommend --generate`: from the command line to `GenerateRequest`, and from the report to what is printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from compresskit.errors import UsageError
from compresskit.recommend.config import GenerateRequest
from compresskit.requests import paths_of
from compresskit.writers import STDOUT

from . import options as shared
from .console import Console
from .options import OUTPUT, TRAINING, option
from .recommend_train import TrainOptions
from .results import check_outputs, check_resume, deliver

GENERATE_ONLY = frozenset({"epochs", "plot", "checkpoint", "checkpoint_minutes", "resume"})
"""Options that have no say without --generate."""


@dataclass(frozen=True)
class GenerateOptions(TrainOptions):
    """How samples are generated."""

    generate: Annotated[
        int | None, option(TRAINING, "Draw so many new samples of --data from a diffusion model trained on it.", "--generate", metavar="N", min=1)
    ] = None
    epochs: Annotated[float, option(TRAINING, "Passes of its training.", "--epochs", metavar="E", min=0)] = GenerateRequest.epochs
    plot: Annotated[str | None, option(OUTPUT, "Draw some samples of each class (.png).", "--plot", metavar="FILE")] = None
    checkpoint: shared.Checkpoint = None
    checkpoint_minutes: shared.CheckpointMinutes = GenerateRequest.checkpoint_minutes
    resume: shared.Resume = False


def generate(console: Console, options: GenerateOptions, count: int, data: str | None, outputs: tuple[str, ...], **fields: object) -> None:
    """Generate `count` samples of `data` into the one of `outputs`; `fields` are those of the request that other groups of options hold."""
    if data is None:
        raise UsageError("--generate goes with --data: say what to imitate")
    if len(outputs) != 1 or outputs[0] == STDOUT:
        raise UsageError("--generate writes one file: name it with -o, such as -o eval.npz")
    check_resume(resume=options.resume, checkpoint=options.checkpoint)
    inputs = tuple(map(str, paths_of(data)))
    check_outputs(console, options, outputs, what="the samples", inputs=inputs, drawings={"--plot": options.plot})
    request = GenerateRequest(
        data,
        count,
        outputs[0],
        epochs=options.epochs,
        plot=options.plot,
        checkpoint=options.checkpoint,
        checkpoint_minutes=options.checkpoint_minutes,
        resume=options.resume,
        threads=options.threads,
        force=options.force,
        arguments=console.arguments,
        **fields,  # type: ignore[arg-type]
    )
    from compresskit.recommend.diffusion.pipeline import run

    from .recommend_tables import generated_lines

    with console.progress() as progress:
        report = run(request, progress)
    deliver(console, options, report, generated_lines(report), inputs=inputs)
