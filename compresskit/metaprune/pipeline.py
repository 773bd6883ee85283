"""`metaprune` from file to files: prune's way, with the stages of a metanetwork in the place of its engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from compresskit.errors import UsageError
from compresskit.metaprune.config import MetapruneConfig, MetapruneRequest
from compresskit.metaprune.reports import MetapruneReport
from compresskit.metaprune.shipped import read_metanetwork
from compresskit.metaprune.stages import MetapruneResult, metaprune
from compresskit.progress import SILENT, Progress
from compresskit.pruning.opened import Opened
from compresskit.pruning.pipeline import PruneOutcome
from compresskit.pruning.pipeline import run as run_pruning
from compresskit.pruning.result import PruneResult
from compresskit.training.tuning import Checkpointing, discard_checkpoints

SHIPPED = "shipped"


@dataclass(frozen=True)
class MetapruneOutcome(PruneOutcome):
    """What a run gives back: as of pruning, with a report that says more."""

    report: MetapruneReport


def run(request: MetapruneRequest, progress: Progress = SILENT) -> MetapruneOutcome:
    """Do what `compresskit metaprune` says it does.

    Raises:
        CompresskitError: of the kind that the exit codes describe; nothing has been written then.
    """
    if request.data is None:
        raise UsageError("a network that was rewritten has to be trained: give --data")
    metanetwork = read_metanetwork(request.metanetwork)
    meta = MetapruneConfig(epochs=0.0) if request.dry_run else request.meta
    made: list[MetapruneResult] = []

    def engine(opened: Opened, kept: Checkpointing | None, progress: Progress) -> PruneResult:
        assert opened.data is not None
        found = metaprune(
            opened.graph,
            opened.data,
            opened.config,
            meta,
            metanetwork=metanetwork,
            device=opened.device,
            table=opened.table,
            checkpointing=kept,
            progress=progress,
        )
        made.append(found)
        return found.pruned

    outcome = run_pruning(request, progress, engine=engine, command="metaprune")
    (result,) = made
    report = MetapruneReport(
        **{
            **vars(outcome.report),
            "settings": {**outcome.report.settings, "meta": asdict(meta)},
            "warnings": (*outcome.report.warnings, *_warnings(result)),
        },
        metanetwork=request.metanetwork or SHIPPED,
        steps=result.steps,
        curve_before=result.curve_before,
        curve_after=result.curve_after,
        statistics=result.statistics,
        unconverted=result.unconverted,
    )
    discard_checkpoints(request, request.config.steps + 2)  # the two steps before pruning
    return MetapruneOutcome(report, outcome.standard_output, outcome.failure)


def _warnings(result: MetapruneResult) -> Iterator[str]:
    if result.unconverted:
        yield f"the metanetwork could not see {len(result.unconverted)} of the parameters, which passed through as they were: {result.unconverted[0]}"
