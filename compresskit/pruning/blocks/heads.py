"""Attention heads: whole ones, or the width that all share. Which of them groups are is said where they are found (`narrow_heads`)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import fx

from compresskit.pruning.blocks.base import Opening, block
from compresskit.pruning.groups import Prunable
from compresskit.pruning.rules.base import operator_name
from compresskit.pruning.trace import Labels

PRODUCTS = ("matmul", "bmm", "baddbmm")
ATTENTION = "scaled_dot_product_attention"


@block("head-width")
def head_width(prunable: Prunable) -> Opening:
    """The width of attention heads, all alike."""
    return Opening(attended(prunable))


@block("heads")
def heads(prunable: Prunable) -> Opening:
    """Whole attention heads; of a single one, its width."""
    return Opening(attended(prunable))


def attended(prunable: Prunable) -> frozenset[int]:
    """The groups that run through attention, written as one operator or as the products of activations that it consists of."""
    labels = [found for node in prunable.graph.module.graph.nodes for found in _operands(prunable, node)]
    inside = np.unique(np.concatenate([*labels, np.zeros(0, dtype=np.int64)]))
    return frozenset(index for index, classes in enumerate(prunable.classes) if np.isin(classes, inside).any())


def _operands(prunable: Prunable, node: fx.Node) -> Iterator[Labels]:
    """The labels of what an attention, or a part of one, reads."""
    if node.op != "call_function" or operator_name(node) not in (ATTENTION, *PRODUCTS):
        return
    operands = [operand for operand in node.all_input_nodes if operand.op != "get_attr"]
    if len(operands) > 1:  # with one, it is a layer whose weight is a constant
        for operand in operands:
            yield from (labels for labels in prunable.coupling.labels[operand] if labels is not None)
