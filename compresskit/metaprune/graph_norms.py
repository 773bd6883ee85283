"""How norms enter the graph, and gains and offsets of each channel, which are norms without statistics: as features of the nodes before them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor, fx, nn

from compresskit.metaprune.graph_draft import NOTHING, Attached
from compresskit.metaprune.graph_walk import SCORES, Walk, collapse, compact
from compresskit.models.lift import bind
from compresskit.pruning.rules.base import operator_name

PARTS = {"weight": "weight", "bias": "bias", "running_mean": "mean", "running_var": "var"}
"""What a norm holds, and what `Attached` calls it."""

_GAINS = {"mul": "weight", "add": "bias"}


def norm(walk: Walk, node: fx.Node, source: fx.Node, along: int, tensors: Mapping[str, Tensor]) -> Tensor:
    """The nodes behind a norm of `source` along one dimension, which holds `tensors`.

    Nodes that have a norm already, or that stand at several places, are followed by nodes for this one.
    """
    before, draft = walk.channels(source, along), walk.draft
    own = (before != NOTHING).all() and len(np.unique(before)) == len(before)
    after = before if own and not draft.normed[before].any() else draft.station(before)
    draft.normed[after] = True
    for name, tensor in tensors.items():
        if walk.take(tensor):
            draft.attached.append(Attached(walk.names[id(tensor)], PARTS[name], after))
    return walk.of(source) if after is before else walk.spread(node, after, along)


def functional_norm(walk: Walk, node: fx.Node) -> Tensor:
    """A norm that is given its tensors, over the channels of dimension 1."""
    given = bind(node)
    found = {name: walk.constant(given[name]) for name in PARTS if isinstance(given.get(name), fx.Node) and given[name].op == "get_attr"}
    return norm(walk, node, node.all_input_nodes[0], 1, found)


def gain(walk: Walk, node: fx.Node) -> Tensor | None:
    """A product or sum with a parameter that has one entry a channel; None for anything else.

    Example: (N, C, H, W) * (C, 1, 1), the layer scale of ConvNeXt; but not positions, (N, T, C) + (T, 1).
    """
    part, operands = _GAINS.get(operator_name(node)), walk.operands(node)
    parameters = {operand: tensor for operand in operands if isinstance(tensor := walk.constant(operand), nn.Parameter)}
    if part is None or len(operands) != 2 or len(parameters) != 1 or node.kwargs:
        return None
    ((parameter, tensor),) = parameters.items()
    source = next(operand for operand in operands if operand is not parameter)
    wide = [index - tensor.ndim for index, size in enumerate(tensor.shape) if size > 1]
    if len(wide) != 1 or walk.shape(source) != walk.shape(node):
        return None
    ids = compact(walk.of(source))
    channels = collapse(ids, [dim for dim in range(-ids.ndim, 0) if dim != wide[0]], keepdim=True)
    return norm(walk, node, source, wide[0], {part: tensor}) if ((channels != NOTHING) & (channels < SCORES)).all() else None
