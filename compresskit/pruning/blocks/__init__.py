"""The building blocks of compression: which parts of a model `prune` may make smaller, one registered function a block.

`channels` opens every width, `heads`, `head-width` and `ffn` those of parts of a transformer, `lowrank` the ranks of layers. A new block is one
file with a function under `@block(name)`, imported here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from compresskit.errors import UsageError
from compresskit.models.graph import ModelGraph
from compresskit.pruning.blocks import channels, ffn, heads, lowrank  # noqa: F401  imported to register
from compresskit.pruning.blocks.base import BLOCKS, Block, Opening, block
from compresskit.pruning.groups import Group, Prunable, find_groups
from compresskit.report import Skipped

HEAD_WIDTH = "head-width"

__all__ = ["BLOCKS", "Block", "Opening", "block", "check_blocks", "open_blocks"]


def check_blocks(graph: ModelGraph, names: Sequence[str]) -> None:
    """Refuse blocks that `graph` does not have.

    Raises:
        UsageError: the message names those that it has.
        InputError: a node does not fit its inputs.
    """
    if tuple(names) == ("channels",):
        return  # that there is nothing to cut is for the plan to say, with the reasons
    walks = {narrow_heads: find_groups(graph, narrow_heads=narrow_heads) for narrow_heads in (False, True)}
    having = [name for name, block in BLOCKS.items() if block.open(walks[name == HEAD_WIDTH])]
    for name in names:
        if name not in having:
            raise UsageError(f"--blocks {name}: {graph.source} has none; it has {', '.join(having) or 'no block at all'}")


def open_blocks(graph: ModelGraph, names: Sequence[str]) -> Prunable:
    """What the named blocks open of `graph`; all other groups are left whole.

    Raises:
        UsageError: a block of another name.
        InputError: a node does not fit its inputs.
    """
    prunable = find_groups(graph, narrow_heads=HEAD_WIDTH in names)
    openings = [BLOCKS[name].open(prunable) for name in names]
    selected = _selected(prunable, frozenset().union(*(opening.groups for opening in openings)), names)
    return _ranked(selected, openings)


def _selected(prunable: Prunable, chosen: frozenset[int], names: Sequence[str]) -> Prunable:
    """`prunable` with only the `chosen` groups."""
    if len(chosen) == len(prunable.groups):
        return prunable
    reason = f"it is not among --blocks {','.join(names)}"
    left = [index for index in range(len(prunable.groups)) if index not in chosen]
    pinned = {int(label): reason for index in left for label in prunable.classes[index]}
    return replace(
        prunable,
        groups=tuple(group for index, group in enumerate(prunable.groups) if index in chosen),
        classes=tuple(classes for index, classes in enumerate(prunable.classes) if index in chosen),
        skipped=(*prunable.skipped, *(Skipped(prunable.groups[index].name, reason) for index in left)),
        coupling=replace(prunable.coupling, pinned=prunable.coupling.pinned | pinned),
    )


def _ranked(prunable: Prunable, openings: Sequence[Opening]) -> Prunable:
    """`prunable` with a group of classes more for every layer whose rank is open."""
    first, labels = prunable.coupling.classes, {}
    for layer, rank in (entry for opening in openings for entry in opening.ranks.items()):
        labels[layer] = np.arange(first, first + rank)
        first += rank
    return replace(
        prunable,
        groups=(*prunable.groups, *(Group(f"rank of {layer}", len(classes), ()) for layer, classes in labels.items())),
        classes=(*prunable.classes, *labels.values()),
        dimensions=(*prunable.dimensions, *labels.values()),
        skipped=(*prunable.skipped, *(Skipped(layer, reason) for opening in openings for layer, reason in opening.closed.items())),
        coupling=replace(prunable.coupling, classes=first),
        ranks=labels,
    )
