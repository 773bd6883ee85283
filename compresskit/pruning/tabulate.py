"""`prune --measure-table`: from a model to a table of how long its operators take on this machine."""

from __future__ import annotations

from pathlib import Path

from compresskit.models.latency_file import write_table
from compresskit.models.latency_measure import blank_table, measure_table
from compresskit.models.latency_operators import batch_of
from compresskit.models.latency_table import Table
from compresskit.models.load import load_model
from compresskit.progress import SILENT, Progress
from compresskit.pruning.measure import settle_threads
from compresskit.pruning.request import TableRequest
from compresskit.writers import check_target


def tabulate(request: TableRequest, progress: Progress = SILENT) -> Table:
    """Measure the table and write it, for cuts of all kinds, at the batch that the model fixes, or 1.

    Raises:
        CompresskitError: of the kind that the exit codes describe; nothing has been written then.
    """
    protect = [] if isinstance(request.model, bytes) else [Path(request.model)]
    check_target(Path(request.output), force=request.force, protect=protect)
    progress.stage("read")
    graph = load_model(request.model, arch=request.arch, input_shape=request.input_shape, trust=request.trust, max_bytes=request.max_bytes)
    threads = settle_threads(request.threads, graph)
    table = measure_table(graph, blank_table(threads=threads, batch=batch_of(graph, 1)), factors=True, progress=progress)
    write_table(table, Path(request.output), force=request.force)
    return table
