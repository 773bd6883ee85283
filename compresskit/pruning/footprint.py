"""What a model would cost after a cut, without cutting it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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


@dataclass(frozen=True)
class _Choice:
    """A layer that counts as it is, or as two factors, whichever is less: (out, in) as (out, rank) times (rank, in)."""

    dense: _Term
    inner: _Term
    outer: _Term


class Footprint:
    """Counts, exactly: sums of terms, each an amount times the kept fractions of the dimensions that it runs over. A `Cost`."""

    def __init__(self, whole: float, terms: Iterable[_Term | _Choice]) -> None:
        given = list(terms)
        plain, choices = [term for term in given if isinstance(term, _Term)], [term for term in given if isinstance(term, _Choice)]
        self._parts = (len(plain), *[len(choices)] * 3)
        every = [*plain, *(one.dense for one in choices), *(one.inner for one in choices), *(one.outer for one in choices)]
        arrays = {labels.tobytes(): labels for term in every for labels in term.dims}
        place = {key: index for index, key in enumerate(arrays)}
        rank = max((len(term.dims) for term in every), default=0)
        rows = [[place[labels.tobytes()] for labels in term.dims] + [len(place)] * (rank - len(term.dims)) for term in every]
        self.whole = float(whole)
        self.dimensions: tuple[Labels, ...] = tuple(arrays.values())
        self._terms = np.array(rows, dtype=np.int64).reshape(len(every), rank)  # rows of dimensions; the one past the last is never cut
        self._amounts = np.array([term.amount for term in every], dtype=np.float64)
        self._fixed = float(whole - self._amounts[: len(plain) + len(choices)].sum())  # what comes of it is compared, and reported in JSON
        self._labels = np.concatenate([*self.dimensions, np.zeros(0, dtype=np.int64)])
        self._sizes = np.array([len(labels) for labels in self.dimensions], dtype=np.int64)
        self._starts = np.cumsum(self._sizes) - self._sizes

    def __call__(self, keep: np.ndarray) -> float:
        """The cost with the classes of `keep` (classes,), a whole number."""
        kept = np.add.reduceat(keep[self._labels].astype(np.float64), self._starts) / self._sizes if len(self._sizes) else np.zeros(0)
        fractions = np.append(kept, 1.0)[self._terms].prod(axis=1)
        return self._fixed + cheapest(np.rint(self._amounts * fractions), self._parts)  # each term counts things

    def relaxed(self, kept: torch.Tensor) -> torch.Tensor:
        """The cost, a differentiable scalar, where a fraction `kept` (dimensions,) of each of `dimensions` stays."""
        fractions = torch.cat([kept, kept.new_ones(1)])[torch.from_numpy(self._terms)].prod(dim=1)
        return self._fixed + relaxed_cheapest(torch.from_numpy(self._amounts).to(kept) * fractions, self._parts)


def cheapest(prices: np.ndarray, parts: Sequence[int]) -> float:
    """The sum of `prices` (prices,), where a layer that may be factorized counts as it is, or as two factors, whichever is less.

    Args:
        parts: four counts: of prices that stand alone, and of layers as they are, of their inner and of their outer factors.
    """
    plain, dense, inner, outer = np.split(prices, np.cumsum(parts[:-1]))
    return float(plain.sum() + np.minimum(dense, inner + outer).sum())


def relaxed_cheapest(prices: torch.Tensor, parts: Sequence[int]) -> torch.Tensor:
    """`cheapest`, a differentiable scalar.

    A layer that may be factorized has the price of the cheaper form, but always the slope of its factors (L1/L2 surrogates, table 1):
    a rank has to fall a long way before it pays, and would never begin to.
    """
    plain, dense, inner, outer = prices.split(list(parts))
    factors = inner + outer
    return plain.sum() + (factors + (torch.minimum(dense, factors) - factors).detach()).sum()


def footprint(
    graph: ModelGraph, coupling: Coupling, quantity: Literal["flops", "params", "size"], ranks: Mapping[str, Labels] | None = None
) -> Footprint:
    """The footprint of `graph` in MACs, parameters or bytes.

    Args:
        ranks: classes of the singular directions of layers that may be factorized, by layer.

    Raises:
        InputError: a node does not fit its inputs.
    """
    whole = total(graph)
    if quantity == "flops":
        return Footprint(whole.macs, _mac_terms(graph, coupling, ranks or {}))
    return Footprint(whole.params if quantity == "params" else whole.bytes, _tensor_terms(graph, coupling, quantity, ranks or {}))


def _term(amount: float, *dims: Labels | None) -> _Term:
    return _Term(amount, tuple(labels for labels in dims if labels is not None))


def _choice(dense: _Term, weight: torch.Tensor, dims: Dims, rank: Labels, leading: Dims = ()) -> _Choice:
    """`dense` is an amount for each entry of `weight` (out, in, *kernel), whose `dims` are those of (out, in)."""
    out, into = weight.shape[0], weight[0].numel()
    inner = _term(dense.amount / out * len(rank), rank, dims[1], *leading)
    return _Choice(dense, inner, _term(dense.amount / into * len(rank), dims[0], rank, *leading))


def _tensor_terms(
    graph: ModelGraph, coupling: Coupling, quantity: Literal["params", "size"], ranks: Mapping[str, Labels]
) -> Iterator[_Term | _Choice]:
    tensors: dict[str, torch.Tensor] = dict(graph.module.named_parameters())
    if quantity == "size":
        tensors |= dict(graph.module.named_buffers())
    for name, tensor in tensors.items():
        if name in coupling.tensors:
            dims = coupling.tensors[name]
            term = _term(tensor.nbytes if quantity == "size" else tensor.numel(), *dims)
            layer, _, kind = name.rpartition(".")
            yield _choice(term, tensor, dims, ranks[layer]) if kind == "weight" and layer in ranks else term


def _mac_terms(graph: ModelGraph, coupling: Coupling, ranks: Mapping[str, Labels]) -> Iterator[_Term | _Choice]:
    calls = [node for node in graph.module.graph.nodes if node.op in ("call_module", "call_function")]
    for node, price in zip(calls, node_costs(graph), strict=True):
        if price.macs and node.op == "call_module":
            yield _layer_term(graph, node, price.macs, coupling, ranks)
        elif price.macs:
            yield from _node_terms(node, price.macs, coupling)


def _layer_term(graph: ModelGraph, node: fx.Node, macs: int, coupling: Coupling, ranks: Mapping[str, Labels]) -> _Term | _Choice:
    """The MACs of a layer: those of a linear one run over the leading dimensions of its input too."""
    name = str(node.target)
    weight = coupling.tensors[f"{name}.weight"]
    leading = coupling.labels[node.all_input_nodes[0]][:-1] if len(weight) == 2 else ()
    term = _term(macs, *weight, *leading)
    return _choice(term, graph.module.get_parameter(f"{name}.weight"), weight, ranks[name], leading) if name in ranks else term


def _node_terms(node: fx.Node, macs: int, coupling: Coupling) -> list[_Term]:
    """The MACs of one call: those of a product run over the dimensions of its result and over the one that is contracted."""
    operands: list[Dims] = [coupling.labels[operand] for operand in node.all_input_nodes]
    result: Dims = coupling.labels[node]
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
