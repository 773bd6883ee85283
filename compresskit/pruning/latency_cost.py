"""What a model would take after a cut, in milliseconds that a table of its operators predicts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from compresskit.errors import TargetError
from compresskit.models.cost import node_costs
from compresskit.models.graph import ModelGraph
from compresskit.models.latency_operators import Use, factored, uses
from compresskit.models.latency_table import Table
from compresskit.pruning.coupling import Coupling
from compresskit.pruning.footprint import cheapest, relaxed_cheapest
from compresskit.pruning.trace import Labels


@dataclass(frozen=True)
class _Row:
    """A call, and what it runs over: its inputs, its outputs, and all else that time is proportional to. None: never cut."""

    use: Use
    dims: tuple[Labels | None, ...]


class LatencyFootprint:
    """The predicted latency of a model as a function of the classes that stay: `Footprint`, in milliseconds.

    Operators are looked up at their own widths (appendix B.1 of L1/L2 surrogates), layers whose ranks are open as they are or as two, whichever
    takes less. What the model takes beside them (adds, pooling, reordering) was measured to shrink along with them; it stays as it is where
    some multiply-adds are in no table.

    Attributes:
        whole: milliseconds of the uncut model.
        dimensions: the sets of classes that latency depends on; each is one dimension of tensors.
    """

    def __init__(self, graph: ModelGraph, coupling: Coupling, table: Table, ranks: Mapping[str, Labels] | None = None) -> None:
        """`ranks`: classes of the singular directions of layers that may be factorized, by layer."""
        calls, open_ranks = uses(graph, table.batch), ranks or {}
        plain = [_row(use, coupling) for use in calls if use.node.target not in open_ranks]
        choices = [_choice(use, coupling, open_ranks[str(use.node.target)]) for use in calls if use.node.target in open_ranks]
        rows = [*plain, *(row for form in zip(*choices, strict=True) for row in form)]
        self._parts = (len(plain), *[len(choices)] * 3)
        arrays = {labels.tobytes(): labels for row in rows for labels in row.dims if labels is not None}
        never = len(arrays)  # stands for a dimension that is never cut
        place = {key: index for index, key in enumerate(arrays)}
        most = max((len(row.dims) for row in rows), default=2)
        placed = [[never if labels is None else place[labels.tobytes()] for labels in row.dims] + [never] * (most - len(row.dims)) for row in rows]
        self.dimensions: tuple[Labels, ...] = tuple(arrays.values())
        self._places = np.array(placed, dtype=np.int64).reshape(len(rows), most)
        self._widths = np.array([(row.use.inputs, row.use.outputs) for row in rows], dtype=np.float64).reshape(len(rows), 2)
        self._stack = table.stack([row.use for row in rows])
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
        prices = _prices(self._stack.mapped(tensor), fractions, tensor(self._widths))
        return (self._fixed + self._factor * relaxed_cheapest(prices, self._parts)).to(kept.dtype)

    def least(self, pinned: Collection[int]) -> float:
        """Milliseconds that no cut goes below: all classes gone but `pinned` ones, and one of each dimension."""
        stays = np.array([max(np.isin(labels, list(pinned)).sum(), 1) / len(labels) for labels in self.dimensions])
        return self._at(stays)

    def _at(self, kept: np.ndarray) -> float:
        prices = _prices(self._stack, np.append(kept, 1.0)[self._places], self._widths)
        return float(self._fixed + self._factor * cheapest(prices, self._parts))


def _prices(stack: Any, fractions: Any, widths: Any) -> Any:
    """Milliseconds of each call, of arrays or tensors.

    Args:
        fractions: (calls, 2 or more) kept, of the inputs, the outputs and what else each call runs over.
        widths: (calls, 2) of the inputs and outputs, before.
    """
    at = fractions[:, :2] * widths
    return stack(at[:, 0], at[:, 1]) * fractions[:, 2:].prod(1)


def _row(use: Use, coupling: Coupling) -> _Row:
    result = coupling.labels[use.node]
    inputs = None if use.operator.groups == 0 else coupling.labels[use.source][use.axis]
    return _Row(use, (inputs, result[use.axis], *(() if use.axis == 1 else result[:-1])))


def _choice(use: Use, coupling: Coupling, rank: Labels) -> tuple[_Row, _Row, _Row]:
    """A layer as it is, and its factors."""
    row, (inner, outer) = _row(use, coupling), factored(use, len(rank))
    inputs, outputs, *others = row.dims
    return row, _Row(inner, (inputs, rank, *others)), _Row(outer, (rank, outputs, *others))


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
