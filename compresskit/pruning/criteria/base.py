"""What every criterion shares: the registry, what a criterion sees, and the sums over a channel's weights.

weights, gradients ──per_channel──► one score a channel of each slice ──mean_over / first_of──► one score a channel of the group
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from compresskit.errors import InputError, UsageError
from compresskit.pruning.groups import Group, Slices
from compresskit.registry import Registry


@dataclass(frozen=True)
class Context:
    """What a criterion may look at. It changes none of it.

    Attributes:
        module: the lifted graph module.
        groups: whose channels are scored.
        batches: pairs of normalised inputs and targets, on the module's device; None: there is no data.
        loss: of outputs and targets, averaged over the batch; None: there is no data.
        seed: of everything that is drawn.
    """

    module: fx.GraphModule | nn.Module
    groups: Sequence[Group]
    batches: Iterable[tuple[Tensor, Tensor]] | None = None
    loss: Callable[[Any, Tensor], Tensor] | None = None
    seed: int = 0

    def parameters(self) -> dict[str, nn.Parameter]:
        """The module's parameters under each of their names. Buffers, such as running statistics, are not among them."""
        return dict(self.module.named_parameters(remove_duplicate=False))


Score = Callable[[Context], list[Tensor]]


@dataclass(frozen=True)
class Criterion:
    """A way to say how much each channel matters.

    Attributes:
        name: what users call it.
        score: gives for each group a (size,) float tensor on the CPU, larger where a channel matters more.
        needs_data: whether it reads `Context.batches`.
        summary: one line for `--help`.
        penalty: what training adds to the loss before the cut, where the criterion wants the model prepared; of the module, a scalar.
    """

    name: str
    score: Score
    needs_data: bool
    summary: str
    penalty: Callable[[nn.Module], Tensor] | None = None

    def __call__(self, context: Context) -> list[Tensor]:
        """Score every channel of `context.groups`; infinity marks a channel that the criterion says nothing about and keeps.

        Raises:
            UsageError: the criterion needs data and there is none.
            InputError: a score is NaN, because a weight or gradient is.
        """
        self.check(data=context.batches is not None and context.loss is not None)
        scores = self.score(context)
        for group, score in zip(context.groups, scores, strict=True):
            if score.isnan().any():
                raise InputError(f"{self.name} scores of {group.name} are not numbers: its weights or gradients are not finite")
        return scores

    def check(self, *, data: bool) -> None:
        """Refuse early what the call would refuse.

        Raises:
            UsageError: it needs data and there are none.
        """
        if self.needs_data and not data:
            free = ", ".join(name for name, other in CRITERIA.items() if not other.needs_data)
            raise UsageError(f"criterion {self.name!r} needs data: give --data, or choose from {free}")


CRITERIA: Registry[Criterion] = Registry("criterion")


def criterion(name: str, *, needs_data: bool, penalty: Callable[[nn.Module], Tensor] | None = None) -> Callable[[Score], Score]:
    """Return a decorator that registers a scoring function under `name`; its docstring's first line becomes the summary."""

    def register(score: Score) -> Score:
        summary = (inspect.getdoc(score) or "").partition("\n")[0]
        CRITERIA.register(name)(Criterion(name, score, needs_data, summary, penalty))
        return score

    return register


def per_channel(piece: Slices, values: Tensor, size: int) -> Tensor:
    """Sum `values`, shaped like the tensor that `piece` names, over all that belongs to each channel: (size,), float32, CPU."""
    rest = [dim for dim in range(values.ndim) if dim != piece.dim]
    sums = (values.float().sum(rest) if rest else values.float()).cpu()
    return torch.zeros(size).index_add(0, torch.from_numpy(piece.channels), sums[torch.from_numpy(piece.positions)])


def covered(piece: Slices, size: int) -> Tensor:
    """Which channels have a part in `piece`: (size,) bool. A branch of a concatenation covers only some."""
    mask = torch.zeros(size, dtype=torch.bool)
    mask[torch.from_numpy(piece.channels)] = True
    return mask


def is_norm_scale(piece: Slices) -> bool:
    """Whether `piece` is of the factors that a norm applies last."""
    return piece.role == "norm" and piece.parameter.endswith("weight")


def mean_over(group: Group, pieces: Sequence[Slices], score: Callable[[Slices], Tensor]) -> Tensor:
    """Each channel's mean score over those of `pieces` that cover it; infinity where none does: (size,)."""
    total, count = torch.zeros(group.size), torch.zeros(group.size)
    for piece in pieces:
        total += score(piece)
        count += covered(piece, group.size)
    return torch.where(count > 0, total / count.clamp(min=1), torch.inf)  # never 0 / 0, whose gradient is NaN


def first_of(group: Group, pieces: Sequence[Slices], score: Callable[[Slices], Tensor]) -> Tensor:
    """Each channel's score in the first of `pieces` that covers it; infinity where none does: (size,)."""
    result, undecided = torch.full((group.size,), torch.inf), torch.ones(group.size, dtype=torch.bool)
    for piece in pieces:
        decided = covered(piece, group.size) & undecided
        result = torch.where(decided, score(piece), result)
        undecided &= ~decided
    return result
