"""Hitting a target: which channels to cut so that MACs, parameters or bytes come out at what was asked."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import fx

from compresskit.errors import TargetError
from compresskit.models.cost import node_costs, total
from compresskit.models.graph import ModelGraph
from compresskit.pruning.config import Quantity
from compresskit.pruning.coupling import Coupling
from compresskit.pruning.groups import Prunable
from compresskit.pruning.rules.base import operator_name

CLOSE = 0.01  # a target counts as hit within this fraction of it


@dataclass(frozen=True)
class Footprint:
    """What a model would cost after a cut, as a function of the classes that stay; exact, and cheap enough to call in a search.

    A cost is a sum of terms, each an amount times the kept fractions of the dimensions that it runs over.
    """

    fixed: float
    amounts: np.ndarray
    terms: tuple[tuple[int, ...], ...]
    dimensions: tuple[np.ndarray, ...]

    def __call__(self, keep: np.ndarray) -> float:
        kept = np.array([keep[labels].mean() for labels in self.dimensions] + [1.0])
        return self.fixed + sum(amount * kept[list(term)].prod() for amount, term in zip(self.amounts, self.terms, strict=True))


def footprint(graph: ModelGraph, coupling: Coupling, quantity: Quantity) -> Footprint:
    """The footprint of `graph` in MACs, parameters or bytes."""
    terms = _mac_terms(graph, coupling) if quantity == "flops" else _tensor_terms(graph, coupling, quantity)
    whole = total(graph)
    full = {"flops": whole.macs, "params": whole.params, "size": whole.bytes}[quantity]
    distinct: dict[bytes, int] = {}
    arrays: list[np.ndarray] = []
    indexed = []
    for amount, dims in terms:
        indices = []
        for labels in dims:
            if labels is not None:
                key = labels.tobytes()
                if key not in distinct:
                    distinct[key] = len(arrays)
                    arrays.append(labels)
                indices.append(distinct[key])
        indexed.append((amount, tuple(indices)))
    amounts = np.array([amount for amount, _ in indexed], dtype=np.float64)
    return Footprint(full - float(amounts.sum()), amounts, tuple(term for _, term in indexed), tuple(arrays))


Terms = list[tuple[float, list["np.ndarray | None"]]]


def _tensor_terms(graph: ModelGraph, coupling: Coupling, quantity: Quantity) -> Terms:
    tensors: dict[str, torch.Tensor] = dict(graph.module.named_parameters())
    if quantity == "size":
        tensors |= dict(graph.module.named_buffers())
    return [
        (tensor.numel() * (tensor.element_size() if quantity == "size" else 1), list(coupling.tensors[name]))
        for name, tensor in tensors.items()
        if name in coupling.tensors
    ]


def _mac_terms(graph: ModelGraph, coupling: Coupling) -> Terms:
    calls = [node for node in graph.module.graph.nodes if node.op in ("call_module", "call_function")]
    priced = zip(calls, node_costs(graph), strict=True)
    return [term for node, price in priced if price.macs for term in _node_terms(node, price.macs, coupling)]


def _node_terms(node: fx.Node, macs: float, coupling: Coupling) -> Terms:
    if node.op == "call_module":
        into = coupling.labels[node.args[0]]  # type: ignore[index]
        linear = len(coupling.tensors[f"{node.target}.weight"]) == 2
        return [(macs, [*coupling.tensors[f"{node.target}.weight"], *(into[:-1] if linear else ())])]
    operands = [coupling.labels.get(arg, ()) for arg in node.args if isinstance(arg, fx.Node)]
    name = operator_name(node)
    if name in ("matmul", "bmm", "mm"):
        return [(macs, [*operands[0], operands[1][-1]])]
    if name in ("addmm", "baddbmm"):
        return [(macs, [*operands[1], operands[2][-1]])]
    if name == "linear":
        return [(macs, [*operands[0], operands[1][0]])]
    if name == "scaled_dot_product_attention":
        query, _, value = operands[:3]
        widths = [coupling.values[arg.name].shape[-1] for arg in (node.args[0], node.args[2]) if isinstance(arg, fx.Node)]
        scores = macs * widths[0] / sum(widths)
        return [(scores, list(query)), (macs - scores, [*query[:-1], value[-1]])]
    return [(macs, [])]


@dataclass(frozen=True)
class Plan:
    """A choice of classes and what it is expected to cost."""

    keep: np.ndarray
    reached: float


def plan(
    prunable: Prunable, scores: Sequence[torch.Tensor], cost: Footprint, limit: float, *, scope: str = "global", floor: float = 0.0, round_to: int = 1
) -> Plan:
    """Cut the least important channels until the cost is at `limit`.

    Args:
        scores: one tensor (size,) a group; bigger is more important.
        scope: "global" takes scores as comparable between groups, "layer" cuts the same fraction from each.
        floor: smallest fraction of any group that stays.
        round_to: cut so that what stays of a group is a multiple of this, where the group is wide enough.

    Raises:
        TargetError: nothing can be cut, or `limit` lies below what the floor lets stay.
    """
    units = _units(prunable, scores, scope, floor, round_to)
    if not units:
        raise TargetError("nothing can be cut from this model: every group of channels is pinned")
    keep = np.ones(prunable.coupling.classes, dtype=bool)
    guard = _Guard(prunable, keep)
    order = [unit for unit in units if guard.take(unit)]
    reached = _threshold(cost, keep, order, limit)
    if reached > limit * (1 + CLOSE):
        whole = cost(np.ones_like(keep))
        raise TargetError(
            f"the target {limit:g} ({limit / whole:.3f} of the model) is out of reach: cutting all that may be cut leaves {reached:g} "
            f"({reached / whole:.3f}); lower --floor, or choose a larger target"
        )
    return Plan(keep, reached)


class _Guard:
    """Sees to it that no dimension of any tensor loses its last channel."""

    def __init__(self, prunable: Prunable, keep: np.ndarray) -> None:
        self.left = [len(labels) for labels in prunable.dimensions]
        self.within: dict[int, list[int]] = {}
        for index, labels in enumerate(prunable.dimensions):
            for label in labels.tolist():
                self.within.setdefault(label, []).append(index)

    def take(self, unit: np.ndarray) -> bool:
        """Account for the loss of `unit`, or refuse it."""
        touched = [index for label in unit.tolist() for index in self.within[label]]
        loss = {index: touched.count(index) for index in set(touched)}
        if any(self.left[index] <= count for index, count in loss.items()):
            return False
        for index, count in loss.items():
            self.left[index] -= count
        return True


def _units(prunable: Prunable, scores: Sequence[torch.Tensor], scope: str, floor: float, round_to: int) -> list[np.ndarray]:
    """What is cut at once, least important first: single channels, or as many as keep a width a multiple."""
    entries: list[tuple[float, int, np.ndarray]] = []
    for classes, score in zip(prunable.classes, scores, strict=True):
        values = score.detach().double().cpu().numpy()
        order = np.argsort(values, kind="stable")
        size = len(order)
        step = round_to if size > round_to else 1
        cuttable = size - max(1, int(np.ceil(floor * size)))
        first = size % step or step
        bounds = [0, *range(first, size, step)]
        for start, stop in itertools.pairwise(bounds):
            if stop <= cuttable:
                value = stop / size if scope == "layer" else float(values[order[start:stop]].mean())
                entries.append((value, len(entries), classes[order[start:stop]]))
    return [unit for _, _, unit in sorted(entries, key=lambda entry: entry[:2])]


def _threshold(cost: Footprint, keep: np.ndarray, order: list[np.ndarray], limit: float) -> float:
    """Cut units of `order` from `keep` (in place): as many as stay above `limit`, then whichever later ones fit, then the closest end."""
    low, high = 0, len(order)
    while low < high:  # the largest number of units that leaves the cost at or above the limit
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(_without(keep, order[:middle])) >= limit else (low, middle - 1)
    keep[:] = _without(keep, order[:low])
    reached = cost(keep)
    for unit in order[low:]:
        if reached <= limit * (1 + CLOSE / 4):
            break
        smaller = _without(keep, [unit])
        after = cost(smaller)
        if abs(after - limit) < abs(reached - limit):
            keep[:], reached = smaller, after
    return reached


def _without(keep: np.ndarray, units: Sequence[np.ndarray]) -> np.ndarray:
    result = keep.copy()
    if len(units):
        result[np.concatenate(units)] = False
    return result
