"""How operators without weights pass nodes on: they move them, combine them, pool them, or contract them."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from compresskit.metaprune.graph_draft import NOTHING, Ids, Role
from compresskit.metaprune.graph_norms import functional_norm, gain
from compresskit.metaprune.graph_walk import SCORES, Walk, collapse, compact
from compresskit.models.lift import bind
from compresskit.pruning.rules.base import axes, operator_name

MOVES = {
    "view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose", "swapaxes", "t", "numpy_T", "movedim",
    "contiguous", "clone", "alias", "detach", "expand", "broadcast_to", "expand_as", "view_as", "reshape_as", "repeat", "tile", "select", "slice",
    "narrow", "split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk", "unbind", "cat", "concat", "concatenate", "stack",
    "index_select", "flip", "roll", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "repeat_interleave",
}  # fmt: skip
POOLS = ("pool1d", "pool2d", "pool3d", "upsample", "reflection_pad", "replication_pad")
REDUCTIONS = {"mean", "sum", "amax", "amin", "prod", "var", "std", "logsumexp", "norm", "linalg_vector_norm"}
COMBINING = {"where", "masked_fill"}


def apply(walk: Walk, node: fx.Node) -> Any:
    """The nodes in what `node` yields."""
    name = operator_name(node)
    if node.target is operator.getitem:
        source, index = node.args
        nodes = walk.nodes[source]  # type: ignore[index]
        return nodes[index] if isinstance(nodes, list) else None  # type: ignore[index]
    if not isinstance(walk.values[node.name], Tensor | list | tuple):
        return None
    if name in MOVES:
        return _moved(walk, node)
    if name in ("constant_pad_nd", "pad"):
        return _padded(walk, node)
    if any(kind in name for kind in POOLS):
        return _pooled(walk, node, next(int(digit) for digit in name if digit.isdigit()))
    if name in REDUCTIONS:
        return _reduced(walk, node)
    if name in ("matmul", "bmm", "mm"):
        return _product(walk, node)
    if name == "scaled_dot_product_attention":
        return _attention(walk, node)
    if name == "glu":
        return _gated(walk, node)
    if name == "instance_norm":
        return functional_norm(walk, node)
    if name in COMBINING or (isinstance(node.target, torch._ops.OpOverload) and torch.Tag.pointwise in node.target.tags):
        return _combined(walk, node)
    return _passed(walk, node)


def _passed(walk: Walk, node: fx.Node) -> Any:
    """What keeps the shape of the only operand with nodes works on every place (hardswish), or along a dimension (softmax), and passes them on."""
    value, known = walk.values[node.name], [operand for operand in walk.operands(node) if (compact(walk.of(operand)) != NOTHING).any()]
    kept = isinstance(value, Tensor) and len(known) == 1 and walk.shape(known[0]) == value.shape
    return walk.of(known[0]) if kept else walk.unknown(node)


def _moved(walk: Walk, node: fx.Node) -> Any:
    """The operator itself, run on node ids; nothing where it moves by numbers that are computed."""
    first = node.args[0]
    sources = first if isinstance(first, list | tuple) else [first]
    followed = node.all_input_nodes if operator_name(node).endswith("_as") else sources
    if any(operand not in followed and operand.op != "get_attr" for operand in walk.operands(node)):
        return walk.unknown(node)
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda operand: walk.of(operand) if operand in followed else walk.constant(operand))
    result = node.target(*args, **kwargs)  # type: ignore[operator]
    return list(result) if isinstance(result, list | tuple) else result


def _padded(walk: Walk, node: fx.Node) -> Tensor:
    """Padding of a dimension along which nodes change adds places without a node."""
    ids = walk.of(node.args[0])
    amounts: Any = fx.map_arg(node.args[1], walk.constant)
    kept = compact(ids)
    changing = [0 if ids.shape[-1 - at // 2] != kept.shape[-1 - at // 2] else amount for at, amount in enumerate(amounts)]
    return torch.constant_pad_nd(kept, changing, NOTHING).expand(walk.shape(node))


def _pooled(walk: Walk, node: fx.Node, over: int) -> Any:
    """Runs over the last dimensions."""
    ids = walk.of(node.args[0])
    kept = collapse(compact(ids), list(range(-over, 0)), keepdim=True)
    value = walk.values[node.name]
    return [kept.expand(item.shape) for item in value] if isinstance(value, list | tuple) else kept.expand(value.shape)


def _reduced(walk: Walk, node: fx.Node) -> Tensor:
    ids, shape = walk.of(node.args[0]), walk.shape(node)
    given = bind(node).get("dim")
    over = axes(list(range(ids.ndim)) if given in (None, []) else given, ids.ndim)
    return collapse(compact(ids), over, keepdim=len(shape) == ids.ndim).expand(shape)


def _combined(walk: Walk, node: fx.Node) -> Tensor:
    """Any function of its operands, position by position."""
    gained = gain(walk, node)
    if gained is not None:
        return gained
    shape = walk.shape(node)
    result, *others = [compact(walk.of(operand)) for operand in walk.operands(node)] or [torch.tensor(NOTHING)]
    for other in others:
        result = _met(walk, result, other)
    return result.expand(shape)


def _gated(walk: Walk, node: fx.Node) -> Tensor:
    """The first half of one dimension times a function of the second."""
    first, second = walk.of(node.args[0]).chunk(2, dim=bind(node)["dim"])
    return _met(walk, compact(first), compact(second)).expand(walk.shape(node))


def _met(walk: Walk, first: Tensor, second: Tensor) -> Tensor:
    """The nodes of a function of two values, whose shapes broadcast."""
    one, two = torch.broadcast_tensors(first, second)
    pairs, place = np.unique(np.stack([one.reshape(-1).numpy(), two.reshape(-1).numpy()]), axis=1, return_inverse=True)
    left, right = walk.draft.homes(pairs)
    result = np.maximum(left, right)  # where one is nothing, the other; products of queries and keys win over both
    both = (left != right) & (left != NOTHING) & (right != NOTHING) & (result < SCORES)
    if both.any():
        result[both] = walk.draft.combine(left[both], right[both])
    return torch.from_numpy(result[place.reshape(-1)]).view(one.shape)


def _product(walk: Walk, node: fx.Node) -> Tensor:
    """(..., i, k) @ (..., k, j): attention's two products, or a mean over k weighted by what is left of it."""
    left, right = (compact(walk.of(operand)) for operand in node.args[:2])
    shape = walk.shape(node)
    if left.ndim < 2 or right.ndim < 2:
        return walk.unknown(node)
    if (left >= SCORES).all():
        numbers = left.unique()
        if len(numbers) == 1:
            queries, keys = walk.scores[int(numbers[0]) - SCORES]
            _attend(walk, queries, keys, _heads(right))
    elif right.shape[-2] > 1 and left.shape[-1] > 1:
        walk.scores.append((_heads(left), _heads(right.transpose(-1, -2))))
        return torch.tensor(SCORES + len(walk.scores) - 1).expand(shape)
    return collapse(right, [-2], keepdim=True).expand(shape)


def _attention(walk: Walk, node: fx.Node) -> Tensor:
    """(..., heads, queries, d), (..., heads, keys, d), (..., heads, keys, e) to (..., heads, queries, e)."""
    queries, keys, values = (compact(walk.of(operand)) for operand in node.args[:3])
    _attend(walk, _heads(queries), _heads(keys), _heads(values))
    return collapse(values, [-2], keepdim=True).expand(walk.shape(node))


def _heads(ids: Tensor) -> Ids:
    """(..., tokens, width) to (heads, width)."""
    return collapse(ids, [-2], keepdim=True).reshape(-1, ids.shape[-1]).numpy()


def _attend(walk: Walk, queries: Ids, keys: Ids, values: Ids) -> None:
    """Let the i-th query, key and value of each head be one node, as appendix G.1 has it, where there are as many of each."""
    draft = walk.draft
    parts = [part.reshape(-1) for part in (queries, keys, values)]
    if queries.shape != keys.shape or keys.shape != values.shape or len(np.unique(np.concatenate(parts))) != 3 * values.size:
        return
    if all(draft.is_plain(part) and not draft.normed[part].any() for part in parts):
        draft.merge(parts[0], parts[2], Role.QUERY)
        draft.merge(parts[1], parts[2], Role.KEY)
        draft.role[parts[2]] = Role.VALUE
