"""Blocks of one shape, stacked: how a graph is laid out for message passing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from compresskit.metaprune.layout import Block, Layout

STACKED = 1 << 14
"""Edges up to which blocks are stacked: few operators on much at a time, but no more at a time than a processor keeps at hand."""


@dataclass(frozen=True)
class Stack:
    """Blocks with as many outs, ins and the same taps, one behind the other along their groups.

    Attributes:
        members: their numbers in the layout.
        sources: (groups, ins).
        targets: (groups, outs).
        taps: (taps, TAP_FEATURES).
        free: whether any of its edges may change.
    """

    members: tuple[int, ...]
    sources: Tensor
    targets: Tensor
    taps: Tensor
    free: bool


@dataclass(frozen=True)
class Wiring:
    """The stacks of a layout, and the edges of every node.

    Attributes:
        sources: the sources of all stacks, in a row.
        targets: likewise.
        incoming: (N,) edges that end at a node.
        outgoing: (N,) edges that begin at a node.
    """

    stacks: tuple[Stack, ...]
    sources: Tensor
    targets: Tensor
    incoming: Tensor
    outgoing: Tensor

    def stacked(self, blocks: Sequence[Tensor]) -> list[Tensor]:
        """(groups, outs, ins, taps) of each block to those of each stack."""
        return [torch.cat([blocks[member] for member in stack.members]) for stack in self.stacks]

    def unstacked(self, stacks: Sequence[Tensor], blocks: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The inverse of `stacked`, given `blocks` of the wanted shapes."""
        found: dict[int, Tensor] = {}
        for stack, values in zip(self.stacks, stacks, strict=True):
            found.update(zip(stack.members, values.split([len(blocks[member]) for member in stack.members]), strict=True))
        return tuple(found[member] for member in range(len(blocks)))


def wiring(layout: Layout, device: torch.device) -> Wiring:
    """The wiring of `layout`, on `device`."""
    stacks = tuple(_stack(layout.blocks, members, device) for members in _alike(layout.blocks))
    sources, targets = _row([stack.sources for stack in stacks], device), _row([stack.targets for stack in stacks], device)
    incoming, outgoing = (torch.zeros(layout.nodes, dtype=torch.int64, device=device) for _ in range(2))
    for stack in stacks:
        outgoing.index_add_(0, stack.sources.reshape(-1), torch.full_like(stack.sources, stack.targets.shape[1]).reshape(-1))
        incoming.index_add_(0, stack.targets.reshape(-1), torch.full_like(stack.targets, stack.sources.shape[1]).reshape(-1))
    return Wiring(stacks, sources, targets, incoming, outgoing)


def _row(ends: Sequence[Tensor], device: torch.device) -> Tensor:
    return torch.cat([torch.zeros(0, dtype=torch.int64, device=device), *(nodes.reshape(-1) for nodes in ends)])


def _alike(blocks: Sequence[Block]) -> Iterator[tuple[int, ...]]:
    """Numbers of blocks that go into one stack."""
    alike: dict[tuple[int, int, bytes, bool], list[list[int]]] = {}
    room: dict[tuple[int, int, bytes, bool], int] = {}
    for number, block in enumerate(blocks):
        groups, outs, ins, _ = block.shape
        key = outs, ins, block.taps.numpy().tobytes(), bool(block.weights)
        edges = groups * outs * ins
        if room.get(key, 0) < edges:
            alike.setdefault(key, []).append([])
            room[key] = STACKED
        alike[key][-1].append(number)
        room[key] -= edges
    yield from (tuple(members) for stacks in alike.values() for members in stacks)


def _stack(blocks: Sequence[Block], members: tuple[int, ...], device: torch.device) -> Stack:
    mine = [blocks[member] for member in members]
    sources, targets = torch.cat([block.sources for block in mine]), torch.cat([block.targets for block in mine])
    return Stack(members, sources.to(device), targets.to(device), mine[0].taps.to(device), bool(mine[0].weights))
