"""What every building block shares: the registry, and what a block opens of a model."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field

from compresskit.pruning.groups import Prunable
from compresskit.registry import Registry


@dataclass(frozen=True)
class Opening:
    """What a block lets go.

    Attributes:
        groups: indices of groups of channels.
        ranks: for each layer that may be factorized, its full rank.
        closed: for each layer that may not be, the reason.
    """

    groups: frozenset[int] = frozenset()
    ranks: dict[str, int] = field(default_factory=dict)
    closed: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.groups or self.ranks)


Open = Callable[[Prunable], Opening]


@dataclass(frozen=True)
class Block:
    """A building block of compression.

    Attributes:
        name: what users call it.
        open: what it opens of a model whose every group was found.
        summary: one line for `--help`.
    """

    name: str
    open: Open
    summary: str


BLOCKS: Registry[Block] = Registry("block")


def block(name: str) -> Callable[[Open], Open]:
    """Return a decorator that registers a function under `name`; its docstring's first line becomes the summary."""

    def register(open: Open) -> Open:
        BLOCKS.register(name)(Block(name, open, (inspect.getdoc(open) or "").partition("\n")[0]))
        return open

    return register
