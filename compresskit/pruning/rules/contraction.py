"""Rules for products of activations: matrix products and attention."""

from __future__ import annotations

from torch import fx

from compresskit.pruning.coupling import Dims, Trace
from compresskit.pruning.rules.base import operator_name, rule


@rule("matmul", "bmm", "mm")
def matmul(trace: Trace, node: fx.Node) -> Dims:
    """(..., i, k) @ (..., k, j) to (..., i, j): k is tied and gone, leading dimensions are tied."""
    left, right = (trace.dims(operand) for operand in node.args[:2])
    name = operator_name(node)
    if len(left) < 2 or len(right) < 2:
        trace.pin((*left, *right), f"{name} with a vector is not cut")
        return trace.free(node)
    trace.tie(left[-1], right[-2], f"{name} contracts it with values that cannot be cut")
    return (*_leading(trace, node, [left[:-2], right[:-2]], [trace.shape(operand)[:-2] for operand in node.args[:2]]), left[-2], right[-1])  # type: ignore[arg-type]


@rule("addmm", "baddbmm")
def addmm(trace: Trace, node: fx.Node) -> Dims:
    """bias + a @ b."""
    bias, left, right = (trace.dims(operand) for operand in node.args[:3])
    trace.tie(left[-1], right[-2], "addmm contracts it with values that cannot be cut")
    if bias and bias[-1] is not None:
        trace.tie(bias[-1], right[-1], "addmm adds a bias that cannot be cut")
    trace.pin(bias[:-1], "addmm adds a matrix")
    return (*left[:-1], right[-1])


@rule("linear")
def linear(trace: Trace, node: fx.Node) -> Dims:
    """A linear layer whose weight is computed: (..., in) and (out, in) to (..., out)."""
    source, weight = trace.dims(node.args[0]), trace.dims(node.args[1])
    trace.tie(source[-1], weight[1], "linear contracts it with values that cannot be cut")
    if len(node.args) > 2 and isinstance(node.args[2], fx.Node):
        trace.tie(weight[0], trace.dims(node.args[2])[0], "linear has a bias that cannot be cut")
    return (*source[:-1], weight[0])


@rule("scaled_dot_product_attention")
def attention(trace: Trace, node: fx.Node) -> Dims:
    """(..., heads, queries, d), (..., heads, keys, d), (..., heads, keys, e) to (..., heads, queries, e)."""
    query, key, value = (trace.dims(operand) for operand in node.args[:3])
    reason = "attention combines it with values that cannot be cut"
    trace.pin([query[-1], key[-1]], "attention derives its scale from this width")
    trace.pin([query[-2], key[-2], value[-2]], "attention runs over its tokens")
    for mask in node.all_input_nodes[3:]:
        trace.pin(trace.dims(mask), "an attention mask is not cut")
    for other in (key, value):
        for first, second in zip(query[:-2], other[:-2], strict=True):
            if first is not None or second is not None:
                trace.tie(first, second, reason)
    return (*query[:-1], value[-1])


def _leading(trace: Trace, node: fx.Node, dims: list[Dims], shapes: list[tuple[int, ...]]) -> Dims:
    """Leading dimensions, broadcast from the back."""
    rank = max(len(shape) for shape in shapes)
    result = []
    for back in range(rank, 0, -1):
        met = [(d[-back], s[-back]) for d, s in zip(dims, shapes, strict=True) if len(s) >= back]
        size = max(s for _, s in met)
        full = [labels for labels, s in met if s == size]
        for labels in full[1:]:
            if full[0] is not None or labels is not None:
                trace.tie(full[0], labels, f"{operator_name(node)} combines it with values that cannot be cut")
        result.append(full[0] if all(labels is not None for labels in full) else None)
    return tuple(result)
