"""Rules for operators that work position by position, and for those that run over space only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import fx

from compresskit.pruning.coupling import Dims, Labels, Trace
from compresskit.pruning.rules.base import axis, operator_name, rule


@rule(
    "clone", "contiguous", "alias", "detach", "dropout", "to", "_to_copy", "type_as", "where", "masked_fill", "softplus", "prelu", "lift_fresh_copy"
)
def pointwise(trace: Trace, node: fx.Node) -> Dims:
    """Operands are aligned at the last dimension, as broadcasting does; what meets is tied."""
    operands = [operand for operand in node.all_input_nodes if isinstance(trace.values[operand.name], torch.Tensor)]
    shape = trace.shape(node)
    result: list[Labels | None] = []
    for back in range(len(shape), 0, -1):
        size = shape[-back]
        met = [trace.dims(operand)[-back] for operand in operands if len(trace.shape(operand)) >= back and trace.shape(operand)[-back] == size]
        result.append(_meet(trace, met, operator_name(node)) if size > 1 else None)
    return tuple(result)


def _meet(trace: Trace, met: Iterable[Labels | None], name: str) -> Labels | None:
    met = list(met)
    labelled = [labels for labels in met if labels is not None]
    for labels in labelled[1:]:
        trace.atoms.tie(labelled[0], labels)
    if not labelled or len(labelled) < len(met):
        trace.pin(labelled[:1], f"{name} combines it with values that cannot be cut")
        return None
    return labelled[0]


@rule(
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool2d", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "max_pool1d", "max_pool2d", "max_pool3d", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_linear1d",
    "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d", "instance_norm", "reflection_pad1d", "reflection_pad2d",
    "replication_pad2d", "grid_sampler",
)  # fmt: skip
def spatial(trace: Trace, node: fx.Node) -> Any:
    """(batch, channels, *space): channels pass, one by one."""
    source = trace.dims(node.args[0])
    shape = trace.shape(node)
    unbatched = len(shape) < 3
    trace.pin(source[2:], f"{operator_name(node)} runs over them")
    for operand in node.all_input_nodes[1:]:
        _affine(trace, node, trace.dims(operand), source[1])
    return trace.free(node) if unbatched else (source[0], source[1], *(None,) * (len(shape) - 2))


def _affine(trace: Trace, node: fx.Node, dims: Dims, channels: Labels | None) -> None:
    """Per-channel weights of a functional norm go with their channel; any other operand is pinned."""
    if operator_name(node) == "instance_norm" and len(dims) == 1:
        trace.tie(dims[0], channels, "instance norm reads inputs that cannot be cut")
    else:
        trace.pin(dims, f"{operator_name(node)} reads it as a whole")


@rule("mean", "sum", "amax", "amin", "max", "min", "prod", "var", "std", "argmax", "argmin", "logsumexp", "norm", "linalg_vector_norm", "any", "all")
def reduction(trace: Trace, node: fx.Node) -> Any:
    """Reduced dimensions are pinned (a mean over fewer channels is another mean); the others pass."""
    source = trace.dims(node.args[0])
    given = next((arg for arg in node.args[1:] if isinstance(arg, int | list | tuple) and not isinstance(arg, bool)), node.kwargs.get("dim"))
    over = _axes(given, len(source))
    trace.pin([source[index] for index in over], f"{operator_name(node)} runs over it")
    value = trace.values[node.name]
    results = value if isinstance(value, list | tuple) else [value]
    kept = [tuple(_kept(source, over, result.ndim)) for result in results]
    return kept if isinstance(value, list | tuple) else kept[0]


def _axes(given: Any, rank: int) -> list[int]:
    if given is None or given == []:
        return list(range(rank))
    return [axis(index, rank) for index in (given if isinstance(given, list | tuple) else [given])]


def _kept(source: Dims, over: list[int], rank: int) -> Iterable[Labels | None]:
    if rank == len(source):
        return (None if index in over else labels for index, labels in enumerate(source))
    return (labels for index, labels in enumerate(source) if index not in over)


@rule("softmax", "log_softmax", "_softmax", "_log_softmax", "cumsum", "cumprod", "flip", "sort", "topk", "glu")
def along(trace: Trace, node: fx.Node) -> Any:
    """Every position along one dimension sees all of it: that one is pinned, the others pass."""
    source = trace.dims(node.args[0])
    chosen = node.args[-1] if operator_name(node) in ("glu",) and len(node.args) > 1 else (node.args[1] if len(node.args) > 1 else -1)
    over = _axes(chosen, len(source))
    trace.pin([source[index] for index in over], f"{operator_name(node)} runs over it")
    passed = tuple(None if index in over else labels for index, labels in enumerate(source))
    value = trace.values[node.name]
    return [passed for _ in value] if isinstance(value, list | tuple) else passed


@rule("zeros", "ones", "full", "new_zeros", "new_ones", "new_full", "empty")
def filled(trace: Trace, node: fx.Node) -> Dims:
    """The same value everywhere: as wide as whatever it meets."""
    return tuple(None if size in (1, trace.batch) else trace.atoms.fresh(size) for size in trace.shape(node))


@rule("zeros_like", "ones_like", "full_like", "empty_like", "rand_like")
def like(trace: Trace, node: fx.Node) -> Dims:
    return trace.dims(node.args[0])
