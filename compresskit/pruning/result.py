"""What the pruning engine gives back."""

from __future__ import annotations

from dataclasses import dataclass

from compresskit.models.graph import ModelGraph
from compresskit.report import LatencyTry, SearchPoint, Skipped
from compresskit.training.state import EpochRecord


@dataclass(frozen=True)
class PruneResult:
    """What the engine made.

    Attributes:
        graph: the smaller (or sparser) model.
        reached: kept fraction of the quantity that the target names; removed fraction of the weights for sparsity.
        asked: the same, as it was asked for.
        met: whether what was asked for is there: a cut within 1% of the target (3% of a measured latency), or the sparsity of every layer
            that can take the pattern.
        out_of_reach: whether not even cutting all that may be cut would have been enough.
        skipped: what was left whole, and why.
        history: training, epoch by epoch.
        path: of the search for widths, where they were learned.
        tries: of the search for a latency.
        notes: what came otherwise than was asked for.
    """

    graph: ModelGraph
    reached: float
    asked: float
    met: bool
    out_of_reach: bool = False
    skipped: tuple[Skipped, ...] = ()
    history: tuple[EpochRecord, ...] = ()
    path: tuple[SearchPoint, ...] = ()
    tries: tuple[LatencyTry, ...] = ()
    notes: tuple[str, ...] = ()
