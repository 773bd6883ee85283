"""`prune` from file to files: read the model and the data, cut and train, check, write, report."""

from __future__ import annotations

from dataclasses import dataclass

from compresskit.progress import SILENT, Progress
from compresskit.pruning.config import PruneRequest
from compresskit.report import Report


@dataclass(frozen=True)
class PruneOutcome:
    """What a run gives back.

    Attributes:
        report: everything measured.
        standard_output: the ONNX bytes that belong on stdout, where "-" was among the outputs.
    """

    report: Report
    standard_output: bytes | None = None


def run(request: PruneRequest, progress: Progress = SILENT) -> PruneOutcome:
    """Do what `compresskit prune` says it does.

    Raises:
        CompresskitError: of the kind that the exit codes describe; TargetError and GuardError are raised after the best model so far
            has been written, and carry its `report`.
    """
    raise NotImplementedError
