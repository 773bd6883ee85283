"""The registries of rules, and what rules share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx, nn

from compresskit.pruning.trace import Dims, Labels, Trace

Rule = Callable[[Trace, fx.Node], Any]

RULES: dict[str, Rule] = {}
LEAF_RULES: dict[type[nn.Module], Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """File a rule under the names of ATen operators (without overloads: "cat", "view")."""

    def file_under(function: Rule) -> Rule:
        for name in names:
            if name in RULES:
                raise ValueError(f"operator {name!r} has a rule already")
            RULES[name] = function
        return function

    return file_under


def leaf_rule(*types: type[nn.Module]) -> Callable[[Rule], Rule]:
    """File a rule under module types."""

    def file_under(function: Rule) -> Rule:
        for kind in types:
            if kind in LEAF_RULES:
                raise ValueError(f"{kind.__name__} has a rule already")
            LEAF_RULES[kind] = function
        return function

    return file_under


def operator_name(node: fx.Node) -> str:
    """`view` for `aten.view.default`; the Python name for anything else."""
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        return target._schema.name.removeprefix("aten::")
    return getattr(target, "__name__", str(target))


def axis(value: int, rank: int) -> int:
    """A dimension counted from the front."""
    return value + rank if value < 0 else value


def axes(given: int | Sequence[int], rank: int) -> list[int]:
    """One or several dimensions counted from the front."""
    return [axis(index, rank) for index in ([given] if isinstance(given, int) else given)]


def replaced(dims: Dims, index: int, labels: Labels | None) -> Dims:
    """`dims` with other labels for one dimension."""
    return (*dims[:index], labels, *dims[index + 1 :])
