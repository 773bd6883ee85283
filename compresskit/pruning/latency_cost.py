"""What a model would take after a cut, in milliseconds that a table of its operators predicts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch

from compresskit.errors import TargetError
from compresskit.models.cost import node_costs
from compresskit.models.graph import ModelGraph
from compresskit.models.latency_operators import Use, uses
from compresskit.models.latency_table import Table
from compresskit.pruning.coupling import Coupling
from compresskit.pruning.trace import Labels


class LatencyFootprint:
    """The predicted latency of a model as a function of the classes that stay: `Footprint`, in milliseconds.

    Operators are looked up at their own widths (appendix B.1 of L1/L2 surrogates). What the model takes beside them (adds, pooling,
    reordering) was measured to shrink along with them; it stays as it is where some multiply-adds are in no table.

    Attributes:
        whole: milliseconds of the uncut model.
        dimensions: the sets of classes that latency depends on; each is one dimension of tensors.
    """

    def __init__(self, graph: ModelGraph, coupling: Coupling, table: Table) -> None:
        calls = uses(graph, table.batch)
        rows = [_dimensions(use, coupling) for use in calls]
        arrays = {labels.tobytes(): labels for row in rows for labels in row if labels is not None}
        never = len(arrays)  # stands for a dimension that is never cut
        place = {key: index for index, key in enumerate(arrays)}
        rank = max(map(len, rows), default=2)
        placed = [[never if labels is None else place[labels.tobytes()] for labels in row] + [never] * (rank - len(row)) for row in rows]
        self.dimensions: tuple[Labels, ...] = tuple(arrays.values())
        self._places = np.array(placed, dtype=np.int64).reshape(len(rows), rank)
        self._widths = np.array([(use.inputs, use.outputs) for use in calls], dtype=np.float64).reshape(len(rows), 2)
        self._stack = table.stack(calls)
        self._labels = np.concatenate([*self.dimensions, np.zeros(0, dtype=np.int64)])
        self._sizes = np.array([len(labels) for labels in self.dimensions], dtype=np.int64)
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._factor, self._fixed = _beside(graph, calls, table)
        self.whole = self._at(np.ones(never))

    def __call__(self, keep: np.ndarray) -> float:
        """Milliseconds with the classes of `keep` (classes,)."""
        if not len(self._sizes):
            return self.whole
        return self._at(np.add.reduceat(keep[self._labels].astype(np.float64), self._starts) / self._sizes)

    def relaxed(self, kept: torch.Tensor) -> torch.Tensor:
        """Milliseconds, a differentiable scalar, where a fraction `kept` (dimensions,) of each of `dimensions` stays."""

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).to(kept.device)

        fractions = torch.cat([kept.double(), kept.new_ones(1, dtype=torch.float64)])[tensor(self._places)]
        return self._total(self._stack.mapped(tensor), fractions, tensor(self._widths)).to(kept.dtype)

    def least(self, pinned: Collection[int]) -> float:
        """Milliseconds that no cut goes below: all classes gone but `pinned` ones, and one of each dimension."""
        stays = np.array([max(np.isin(labels, list(pinned)).sum(), 1) / len(labels) for labels in self.dimensions])
        return self._at(stays)

    def _at(self, kept: np.ndarray) -> float:
        return float(self._total(self._stack, np.append(kept, 1.0)[self._places], self._widths))

    def _total(self, stack: Any, fractions: Any, widths: Any) -> Any:
        """Of arrays or tensors: (operators, 2 or more) kept fractions of the inputs, the outputs and what else each operator runs over."""
        at = fractions[:, :2] * widths
        return self._fixed + self._factor * (stack(at[:, 0], at[:, 1]) * fractions[:, 2:].prod(1)).sum()


def _dimensions(use: Use, coupling: Coupling) -> list[Labels | None]:
    """What a call runs over: its inputs, its outputs, and all else that time is proportional to. None: never cut."""
    result = coupling.labels[use.node]
    inputs = None if use.operator.groups == 0 else coupling.labels[use.source][use.axis]
    return [inputs, result[use.axis], *(() if use.axis == 1 else result[:-1])]


def _beside(graph: ModelGraph, calls: Sequence[Use], table: Table) -> tuple[float, float]:
    """The factor on the sum of the operators, and the milliseconds to add, that make it the latency of the whole model."""
    measured = table.whole(calls)
    if sum(price.macs > 0 for price in node_costs(graph)) > len(calls):
        return 1.0, max(measured.ms - measured.operators_ms, 0.0)
    return measured.ms / measured.operators_ms, 0.0


def check_limit(cost: LatencyFootprint, coupling: Coupling, limit: float) -> None:
    """Refuse a limit, in milliseconds, that no cut can reach.

    Raises:
        TargetError: the message names the floor.
    """
    floor = cost.least(coupling.pinned)
    if limit < floor:
        raise TargetError(f"--latency {limit:.3g}ms is out of reach: the part that cannot be cut takes {floor:.3g} ms; choose a larger target")
