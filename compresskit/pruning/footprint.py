"""What a model would cost after a cut, without cutting it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import fx

from compresskit.models.cost import node_costs, total
from compresskit.models.graph import ModelGraph
from compresskit.pruning.coupling import Coupling
from compresskit.pruning.rules.base import operator_name
from compresskit.pruning.trace import Dims, Labels


class Cost(Protocol):
    """What is left of a model's MACs, parameters, bytes or latency after a cut, without cutting it; cheap enough to call in a search.

    Attributes:
        whole: the cost of the uncut model.
        dimensions: the sets of classes that it depends on; each is one or more dimensions of tensors.
    """

    @property
    def whole(self) -> float: ...
    @property
    def dimensions(self) -> tuple[Labels, ...]: ...

    def __call__(self, keep: np.ndarray) -> float:
        """The cost with the classes of `keep` (classes,)."""
        ...

    def relaxed(self, kept: torch.Tensor) -> torch.Tensor:
        """The cost, a differentiable scalar, where a fraction `kept` (dimensions,) of each of `dimensions` stays."""
        ...


@dataclass(frozen=True)
class _Term:
    """An amount that shrinks with each of some dimensions."""

    amount: float
    dims: tuple[Labels, ...]


class Footprint:
    """Counts, exactly: sums of terms, each an amount times the kept fractions of the dimensions that it runs over. A `Cost`."""

    def __init__(self, whole: float, terms: Iterable[_Term]) -> None:
        terms = list(terms)
        arrays = {labels.tobytes(): labels for term in terms for labels in term.dims}
        place = {key: index for index, key in enumerate(arrays)}
        rank = max((len(term.dims) for term in terms), default=0)
        rows = [[place[labels.tobytes()] for labels in term.dims] + [len(place)] * (rank - len(term.dims)) for term in terms]
        self.whole = float(whole)
        self.dimensions: tuple[Labels, ...] = tuple(arrays.values())
        self._terms = np.array(rows, dtype=np.int64).reshape(len(terms), rank)  # rows of dimensions; the one past the last is never cut
        self._amounts = np.array([term.amount for term in terms], dtype=np.float64)
        self._fixed = whole - self._amounts.sum()
        self._labels = np.concatenate([*self.dimensions, np.zeros(0, dtype=np.int64)])
        self._sizes = np.array([len(labels) for labels in self.dimensions], dtype=np.int64)
        self._starts = np.cumsum(self._sizes) - self._sizes

    def __call__(self, keep: np.ndarray) -> float:
        """The cost with the classes of `keep` (classes,), a whole number."""
        kept = np.add.reduceat(keep[self._labels].astype(np.float64), self._starts) / self._sizes if len(self._sizes) else np.zeros(0)
        fractions = np.append(kept, 1.0)[self._terms].prod(axis=1)
        return float(self._fixed + np.rint(self._amounts * fractions).sum())  # each term counts things

    def relaxed(self, kept: torch.Tensor) -> torch.Tensor:
        """The cost, a differentiable scalar, where a fraction `kept` (dimensions,) of each of `dimensions` stays."""
        fractions = torch.cat([kept, kept.new_ones(1)])[torch.from_numpy(self._terms)].prod(dim=1)
        return self._fixed + (torch.from_numpy(self._amounts).to(kept) * fractions).sum()


def footprint(graph: ModelGraph, coupling: Coupling, quantity: Literal["flops", "params", "size"]) -> Footprint:
    """The footprint of `graph` in MACs, parameters or bytes.

    Raises:
        InputError: a node does not fit its inputs.
    """
    whole = total(graph)
    if quantity == "flops":
        return Footprint(whole.macs, _mac_terms(graph, coupling))
    return Footprint(whole.params if quantity == "params" else whole.bytes, _tensor_terms(graph, coupling, quantity))


def _term(amount: float, *dims: Labels | None) -> _Term:
    return _Term(amount, tuple(labels for labels in dims if labels is not None))


def _tensor_terms(graph: ModelGraph, coupling: Coupling, quantity: Literal["params", "size"]) -> Iterator[_Term]:
    tensors: dict[str, torch.Tensor] = dict(graph.module.named_parameters())
    if quantity == "size":
        tensors |= dict(graph.module.named_buffers())
    for name, tensor in tensors.items():
        if name in coupling.tensors:
            yield _term(tensor.nbytes if quantity == "size" else tensor.numel(), *coupling.tensors[name])


def _mac_terms(graph: ModelGraph, coupling: Coupling) -> Iterator[_Term]:
    calls = [node for node in graph.module.graph.nodes if node.op in ("call_module", "call_function")]
    for node, price in zip(calls, node_costs(graph), strict=True):
        if price.macs:
            yield from _node_terms(node, price.macs, coupling)


def _node_terms(node: fx.Node, macs: int, coupling: Coupling) -> list[_Term]:
    """The MACs of one call: those of a product run over the dimensions of its result and over the one that is contracted."""
    operands: list[Dims] = [coupling.labels[operand] for operand in node.all_input_nodes]
    result: Dims = coupling.labels[node]
    if node.op == "call_module":
        weight = coupling.tensors[f"{node.target}.weight"]
        leading = operands[0][:-1] if len(weight) == 2 else ()  # of a linear layer
        return [_term(macs, *weight, *leading)]
    name = operator_name(node)
    if name in ("matmul", "bmm", "mm", "linear"):
        return [_term(macs, *result, operands[0][-1])]
    if name in ("addmm", "baddbmm"):
        return [_term(macs, *result, operands[1][-1])]
    if name == "scaled_dot_product_attention":
        inner, outer = (coupling.sizes.shape(node.args[index])[-1] for index in (0, 2))
        scores = macs * inner // (inner + outer)
        return [_term(scores, *result[:-1], operands[0][-1]), _term(macs - scores, *result)]
    return [_term(macs)]
