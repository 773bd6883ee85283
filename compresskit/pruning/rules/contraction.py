"""Rules for products of activations: matrix products and attention."""

from __future__ import annotations

from torch import fx

from compresskit.models.lift import bind
from compresskit.pruning.rules.base import operator_name, rule
from compresskit.pruning.rules.pointwise import aligned
from compresskit.pruning.trace import Dims, Trace


@rule("matmul", "bmm", "mm")
def matmul(trace: Trace, node: fx.Node) -> Dims:
    """(..., i, k) @ (..., k, j) to (..., i, j): k is tied and gone, leading dimensions are tied."""
    left, right = (trace.dims(operand) for operand in node.args[:2])
    name = operator_name(node)
    if len(left) < 2 or len(right) < 2:
        trace.pin((*left, *right), f"{name} with a vector is not cut")
        return trace.free(node)
    trace.tie(left[-1], right[-2], f"{name} contracts it with values that cannot be cut")
    leading = aligned(trace, [left[:-2], right[:-2]], [trace.shape(operand)[:-2] for operand in node.args[:2]], name)
    return (*leading, left[-2], right[-1])


@rule("addmm", "baddbmm")
def addmm(trace: Trace, node: fx.Node) -> Dims:
    """bias + left @ right, the bias broadcast."""
    bias, left, right = (trace.dims(operand) for operand in node.args[:3])
    name = operator_name(node)
    trace.tie(left[-1], right[-2], f"{name} contracts it with values that cannot be cut")
    leading = aligned(trace, [left[:-2], right[:-2]], [trace.shape(operand)[:-2] for operand in node.args[1:3]], name)
    return aligned(trace, [(*leading, left[-2], right[-1]), bias], [trace.shape(node), trace.shape(node.args[0])], name)


@rule("linear")
def linear(trace: Trace, node: fx.Node) -> Dims:
    """A linear layer whose weight is computed: (..., in) and (out, in) to (..., out)."""
    source, weight = trace.dims(node.args[0]), trace.dims(node.args[1])
    trace.tie(source[-1], weight[1], "linear contracts it with values that cannot be cut")
    if isinstance(bias := bind(node)["bias"], fx.Node):
        trace.tie(weight[0], trace.dims(bias)[0], "linear has a bias that cannot be cut")
    return (*source[:-1], weight[0])


@rule("scaled_dot_product_attention")
def attention(trace: Trace, node: fx.Node) -> Dims:
    """(..., heads, queries, d), (..., heads, keys, d), (..., heads, keys, e) to (..., heads, queries, e)."""
    query, key, value = (trace.dims(operand) for operand in node.args[:3])
    shapes = [trace.shape(operand) for operand in node.args[:3]]
    trace.tie(query[-1], key[-1], "attention combines it with values that cannot be cut")
    trace.pin([query[-2], key[-2], value[-2]], "attention runs over its tokens")
    for mask in node.all_input_nodes[3:]:
        trace.pin(trace.dims(mask), "attention takes its mask as it is")
    leading = aligned(trace, [query[:-2], key[:-2], value[:-2]], [shape[:-2] for shape in shapes], "attention")
    return (*leading, query[-2], value[-1])
