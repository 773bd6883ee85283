"""What a cut is to reach, and what counts towards it: MACs, parameters, bytes, or milliseconds in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from compresskit.errors import UsageError
from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph
from compresskit.models.latency_file import cached_table, is_local
from compresskit.models.latency_measure import measure_table, measured_latency, measured_share
from compresskit.models.latency_operators import uses
from compresskit.models.latency_table import Table
from compresskit.progress import SILENT, Progress
from compresskit.pruning.blocks import open_blocks
from compresskit.pruning.config import Target
from compresskit.pruning.footprint import Cost, footprint
from compresskit.pruning.groups import Prunable
from compresskit.pruning.latency_cost import LatencyFootprint, check_limit


@dataclass(frozen=True)
class Goal:
    """A target for one model.

    Attributes:
        graph: the uncut model.
        target: what was asked for.
        whole: what the uncut model costs, of the quantity that `target` names; milliseconds are as `table` predicts them.
        limit: what may stay of it.
        table: of operators, where the target is a latency.
    """

    graph: ModelGraph
    target: Target
    whole: float
    limit: float
    table: Table | None = None

    @property
    def measurable(self) -> bool:
        """Whether predictions can, and so must, be checked by measuring: counts are exact, and other machines' latencies out of reach."""
        return self.table is not None and is_local(self.table)

    def cost(self, prunable: Prunable) -> Cost:
        """What a cut of `prunable` would leave. Operators that an earlier cut made, such as attention with fewer heads, are measured.

        Raises:
            InputError: they are not in the table, and it is another machine's.
        """
        if self.table is not None:
            return _priced(prunable, _completed(self.table, prunable) if self.measurable else self.table)
        assert self.target.quantity != "latency"
        return footprint(prunable.graph, prunable.coupling, self.target.quantity, prunable.ranks)

    def measured(self, graph: ModelGraph) -> float:
        """Milliseconds that `graph` takes: of a fraction in turns with the uncut model, as a share of what is predicted for that."""
        assert self.table is not None
        threads, batch = self.table.threads, self.table.batch
        if self.target.relative:
            return measured_share(graph, self.graph, threads=threads, batch=batch) * self.whole
        return measured_latency(graph, threads=threads, batch=batch).p50_ms


def set_goal(
    graph: ModelGraph, target: Target, table: Table | None = None, progress: Progress = SILENT, blocks: Sequence[str] = ("channels",)
) -> Goal:
    """What `target` means for `graph`.

    Args:
        table: for a latency; None: one of this machine, with the threads that torch has.
        blocks: what may be cut.

    Raises:
        UsageError: the model is below an absolute target already.
        TargetError: a latency below that of the part that cannot be cut.
        InputError: an operator is not in `table`, or cannot be measured.
    """
    if target.quantity != "latency":
        if table is not None:
            raise UsageError(f"a latency table says nothing about --{target.quantity}: leave it out, or give --latency")
        whole = _counted(graph, target)
        return Goal(graph, target, whole, target.limit(whole))
    prunable = open_blocks(graph, blocks)
    if table is None:
        table = cached_table(graph, factors=bool(prunable.ranks), threads=torch.get_num_threads(), progress=progress)
    elif is_local(table):
        table = _completed(table, prunable, progress)
    cost = _priced(prunable, table)
    goal = Goal(graph, target, cost.whole, target.limit(cost.whole), table)
    check_limit(cost, prunable.coupling, goal.limit)
    return goal


def _completed(table: Table, prunable: Prunable, progress: Progress = SILENT) -> Table:
    """`table`, of this machine, with times of all that a cut of `prunable` may consist of.

    Raises:
        InputError: as `measure_table`.
    """
    return measure_table(prunable.graph, table, factors=bool(prunable.ranks), progress=progress)


def _priced(prunable: Prunable, table: Table) -> LatencyFootprint:
    """What `prunable` takes by `table`.

    Raises:
        InputError: an operator is not in it.
    """
    table.check(uses(prunable.graph, table.batch))
    return LatencyFootprint(prunable.graph, prunable.coupling, table, prunable.ranks)


def _counted(graph: ModelGraph, target: Target) -> float:
    cost = total(graph)
    return float({"flops": cost.macs, "params": cost.params, "size": cost.bytes}[target.quantity])
