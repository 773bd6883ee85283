"""`compresskit recommend --train`: from the command line to `TrainRequest`, and from the report to what is printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from compresskit.errors import UsageError
from compresskit.recommend.config import TrainRequest
from compresskit.writers import STDOUT

from . import options as shared
from .console import Console
from .options import TRAINING, ReportOptions, RunOptions, option
from .results import check_outputs, deliver

TRAINING_ONLY = frozenset({"models", "trials", "jobs", "cluster"})
"""Options that have no say without --train."""
# Said again here because the library's table loads torch; a test holds the two together.
BudgetName = Literal["small", "medium", "full"]


@dataclass(frozen=True)
class TrainOptions(RunOptions, ReportOptions):
    """How a predictor is trained."""

    train: Annotated[bool, option(TRAINING, "Try settings on --models and --data, and fit a predictor; goes on where it stopped.", "--train")] = False
    models: Annotated[str | None, option(TRAINING, "Folder of trained models.", "--models", metavar="DIR")] = None
    budget: Annotated[
        BudgetName | None, option(TRAINING, "Training of what is carried out: full, and small for --train, unless given.", "--budget", metavar="NAME")
    ] = None
    trials: Annotated[int | None, option(TRAINING, "At most so many settings in all; every one unless given.", "--trials", metavar="N", min=1)] = None
    jobs: Annotated[int, option(TRAINING, "Models to work on at a time.", "-j", "--jobs", metavar="N", min=1)] = TrainRequest.jobs
    cluster: Annotated[str | None, shared.cluster(TRAINING)] = TrainRequest.cluster


def train(
    console: Console, options: TrainOptions, data: tuple[str, ...], outputs: tuple[str, ...], *, seed: int, trust: bool, max_bytes: int | None
) -> None:
    """Train a predictor on all pairs of the models and `data`, and write it to the one of `outputs`."""
    if options.models is None or not data:
        raise UsageError("--train goes with --models and --data: say what to try settings on")
    if len(outputs) != 1 or outputs[0] == STDOUT:
        raise UsageError("--train writes one file: name it with -o, such as -o my.predictor")
    request = TrainRequest(
        models=options.models,
        data=data,
        output=outputs[0],
        budget=options.budget or TrainRequest.budget,
        trials=options.trials,
        jobs=options.jobs,
        cluster=options.cluster,
        seed=seed,
        trust=trust,
        max_bytes=max_bytes,
        force=options.force,
        arguments=console.arguments,
    )
    inputs = tuple(map(str, request.files_read()))
    check_outputs(console, options, outputs, what="the predictor", inputs=inputs, drawings={})
    from compresskit.recommend.sweep import run

    from .recommend_tables import training_tables

    with console.progress() as progress:
        report = run(request, progress)
    deliver(console, options, report, training_tables(report, verbose=options.verbose > 0), inputs=inputs)
