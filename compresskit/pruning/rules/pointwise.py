"""Rules for operators that work position by position, and for those that run over some dimensions and leave the others alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import fx

from compresskit.models.lift import bind
from compresskit.pruning.rules.base import axes, axis, operator_name, rule
from compresskit.pruning.trace import Dims, Labels, Trace


@rule(
    "clone", "contiguous", "alias", "detach", "dropout", "to", "_to_copy", "type_as", "where", "masked_fill", "softplus", "hardswish", "log_sigmoid",
    "lift_fresh_copy",
)  # fmt: skip
def pointwise(trace: Trace, node: fx.Node) -> Dims:
    """Operands are aligned at the last dimension, as broadcasting does; what meets is tied."""
    operands = [operand for operand in node.all_input_nodes if isinstance(trace.value(operand), torch.Tensor)]
    return aligned(trace, [trace.dims(operand) for operand in operands], [trace.shape(operand) for operand in operands], operator_name(node))


def aligned(trace: Trace, operands: list[Dims], shapes: list[tuple[int, ...]], name: str) -> Dims:
    """The labels of what operands broadcast to; those that meet are tied, and size 1 meets nothing."""
    result: list[Labels | None] = []
    for back in range(max(map(len, shapes)), 0, -1):
        present = [(dims[-back], shape[-back]) for dims, shape in zip(operands, shapes, strict=True) if len(shape) >= back]
        result.append(_meet(trace, [labels for labels, size in present if size > 1], name))
    return tuple(result)


def _meet(trace: Trace, met: list[Labels | None], name: str) -> Labels | None:
    labelled = [labels for labels in met if labels is not None]
    for labels in labelled[1:]:
        trace.atoms.tie(labelled[0], labels)
    if not labelled or len(labelled) < len(met):
        trace.pin(labelled[:1], f"{name} combines it with values that cannot be cut")
        return None
    return labelled[0]


@rule(
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool1d", "max_pool2d", "max_pool3d", "max_pool1d_with_indices", "max_pool2d_with_indices",
    "max_pool3d_with_indices", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_linear1d", "upsample_bilinear2d",
    "upsample_bicubic2d", "upsample_trilinear3d", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d",
    "replication_pad2d", "replication_pad3d",
)  # fmt: skip
def spatial(trace: Trace, node: fx.Node) -> Any:
    """Runs over the last dimensions, as many as its name says; each channel before them by itself."""
    source = trace.dims(node.args[0])
    over = next(int(digit) for digit in operator_name(node) if digit.isdigit())
    trace.pin(source[-over:], f"{operator_name(node)} runs over it")
    passed: Dims = (*source[:-over], *(None,) * over)
    value = trace.value(node)
    return [passed for _ in value] if isinstance(value, list | tuple) else passed


@rule("instance_norm")
def instance_norm(trace: Trace, node: fx.Node) -> Dims:
    """(batch, channels, *space): each channel by itself; its weights and statistics go with it."""
    source = trace.dims(node.args[0])
    trace.pin(source[2:], "instance_norm runs over it")
    for operand in node.all_input_nodes[1:]:
        trace.tie(source[1], trace.dims(operand)[0], "instance_norm reads inputs that cannot be cut")
    return (*source[:2], *(None,) * (len(source) - 2))


@rule("mean", "sum", "amax", "amin", "prod", "var", "std", "argmax", "argmin", "logsumexp", "norm", "linalg_vector_norm", "any", "all")
def reduction(trace: Trace, node: fx.Node) -> Dims:
    """Reduced dimensions are pinned (a mean over fewer channels is another mean); the others pass."""
    source = trace.dims(node.args[0])
    given = bind(node).get("dim")
    over = axes(list(range(len(source))) if given in (None, []) else given, len(source))
    trace.pin([source[index] for index in over], f"{operator_name(node)} runs over it")
    if len(trace.shape(node)) == len(source):  # kept as size 1
        return tuple(None if index in over else labels for index, labels in enumerate(source))
    return tuple(labels for index, labels in enumerate(source) if index not in over)


@rule("max", "min")
def extremum(trace: Trace, node: fx.Node) -> Any:
    """Of two tensors, of all elements, or along one dimension, where positions come along."""
    if "other" in bind(node):
        return pointwise(trace, node)
    if isinstance(trace.value(node), torch.Tensor):
        return reduction(trace, node)
    source = trace.dims(node.args[0])
    over = axis(bind(node)["dim"], len(source))
    trace.atoms.pin(source[over], f"{operator_name(node)} runs over it")
    kept = (None,) if bind(node)["keepdim"] else ()
    return [(*source[:over], *kept, *source[over + 1 :]) for _ in trace.value(node)]


@rule("softmax", "log_softmax", "_softmax", "_log_softmax", "cumsum", "cumprod", "flip", "sort", "topk")
def along(trace: Trace, node: fx.Node) -> Any:
    """Every position along some dimensions sees all of them: these are pinned, the others pass."""
    source = trace.dims(node.args[0])
    bound = bind(node)
    over = axes(bound["dims"] if "dims" in bound else bound["dim"], len(source))
    trace.pin([source[index] for index in over], f"{operator_name(node)} runs over it")
    passed = tuple(None if index in over else labels for index, labels in enumerate(source))
    value = trace.value(node)
    return [passed for _ in value] if isinstance(value, list | tuple) else passed


@rule("glu")
def gated(trace: Trace, node: fx.Node) -> Dims:
    """The first half of one dimension is multiplied by a gate, the second half."""
    source = trace.dims(node.args[0])
    over = axis(bind(node)["dim"], len(source))
    labels = source[over]
    if labels is None:
        return source
    values, gates = np.split(labels, 2)
    trace.atoms.tie(values, gates)
    return (*source[:over], values, *source[over + 1 :])


@rule("zeros", "ones", "full", "new_zeros", "new_ones", "new_full", "empty")
def filled(trace: Trace, node: fx.Node) -> Dims:
    """The same value everywhere: as wide as whatever it meets."""
    return tuple(None if size == 1 or size % trace.sizes.batch == 0 else trace.atoms.fresh(size) for size in trace.shape(node))


@rule("zeros_like", "ones_like", "full_like", "empty_like", "rand_like")
def like(trace: Trace, node: fx.Node) -> Dims:
    return trace.dims(node.args[0])
