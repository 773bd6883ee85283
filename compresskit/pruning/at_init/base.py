"""What every saliency shares: the registry, what a saliency sees, and what it gives back.

batches ──┐
module ───┼─ Task ──► Saliency ──► Scores: one tensor a weight, or one a group of channels
Masks ────┘
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from torch import Tensor

from compresskit.errors import InputError, TargetError, UsageError
from compresskit.models.graph import ModelGraph
from compresskit.progress import SILENT, Progress
from compresskit.pruning.at_init.masks import Granularity, Masks, Tensors
from compresskit.registry import Registry
from compresskit.wording import listed

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Task:
    """What is to be scored, and on what. A saliency changes none of it.

    Attributes:
        graph: the network, whose module `masks` masks.
        masks: single weights or channels.
        kept: the fraction of weights or cost that is to stay; saliencies that prune in rounds work towards it.
        batches: normalised inputs and targets on the module's device, as many as any saliency may ask for; None: there is no data.
        loss: of outputs and targets, averaged over the batch; None: there is no data.
        seed: of everything that is drawn.
    """

    graph: ModelGraph
    masks: Masks
    kept: float
    batches: Iterable[Batch] | None = None
    loss: Callable[[Any, Tensor], Tensor] | None = None
    seed: int = 0
    progress: Progress = SILENT

    def draw(self, count: int) -> Iterator[Batch]:
        """The first `count` batches, one after the other.

        Raises:
            InputError: there are fewer.
        """
        drawn = 0
        for batch in islice(self.batches or (), count):
            drawn += 1
            yield batch
        if drawn < count:
            raise InputError(f"{drawn} batches of data are too few: expected {count}")


@dataclass(frozen=True)
class Scores:
    """What matters how much.

    Attributes:
        values: by weight, of its shape, or by group, (size,); larger matters more, and all are comparable.
        notes: what came otherwise than was asked for.
    """

    values: Tensors
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Saliency:
    """A way to say, before training, how much each weight or channel will matter.

    Attributes:
        name: what users call it.
        function: of a task and settings of its own.
        granularities: what it can score.
        needs_data: whether it reads `Task.batches`.
        summary: one line for `--help`.
    """

    name: str
    function: Callable[..., Scores]
    granularities: tuple[Granularity, ...]
    needs_data: bool
    summary: str

    def __call__(self, task: Task, **settings: Any) -> Scores:
        """Score everything that `task.masks` can mask.

        Args:
            settings: the function's own, such as the number of rounds.

        Raises:
            UsageError: it cannot score this granularity, or needs data and there are none.
            InputError: a score is not finite, because a weight or gradient is not; too few batches.
            TargetError: there is nothing to mask, or a layer gets no gradient at all.
        """
        self.check(task.masks.granularity, data=task.batches is not None and task.loss is not None)
        if not task.masks.ones():
            raise TargetError(f"nothing can be pruned from this model: it has no {task.masks.granularity} that could go")
        scores = self.function(task, **settings)
        require_finite(scores.values)
        return replace(scores, values={name: score.detach() for name, score in scores.values.items()})

    def check(self, granularity: Granularity, *, data: bool) -> None:
        """Refuse early what the call would refuse.

        Raises:
            UsageError: it cannot score this granularity, or needs data and there are none.
        """
        if granularity not in self.granularities:
            able = [name for name, other in SALIENCIES.items() if granularity in other.granularities]
            raise UsageError(f"method {self.name!r} scores {self.granularities[0]}, not {granularity}: choose from {', '.join(able)}")
        if self.needs_data and not data:
            free = [name for name, other in SALIENCIES.items() if not other.needs_data]
            raise UsageError(f"method {self.name!r} needs data: give --data, or choose from {', '.join(free)}")


SALIENCIES: Registry[Saliency] = Registry("method")


def saliency(name: str, *granularities: Granularity, needs_data: bool) -> Callable[[Callable[..., Scores]], Callable[..., Scores]]:
    """Return a decorator that registers a function under `name`; its docstring's first line becomes the summary."""

    def register(function: Callable[..., Scores]) -> Callable[..., Scores]:
        summary = (inspect.getdoc(function) or "").partition("\n")[0]
        SALIENCIES.register(name)(Saliency(name, function, granularities, needs_data, summary))
        return function

    return register


def require_finite(scores: Mapping[str, Tensor]) -> None:
    """Refuse scores that have no order.

    Raises:
        InputError: a score is not finite.
    """
    wrong = [name.removesuffix(".weight") for name, score in scores.items() if not score.isfinite().all()]
    if wrong:
        raise InputError(f"the scores of {listed(wrong, 3)} are not finite: expected finite weights, data and gradients")


def require_signal(scores: Mapping[str, Tensor]) -> None:
    """Refuse a network in which a whole layer has no influence: its scores would say nothing.

    Raises:
        TargetError: the scores of a layer are all zero.
    """
    silent = [name.removesuffix(".weight") for name, score in scores.items() if not score.any()]
    if silent:
        raise TargetError(
            f"the gradients of {listed(silent, 3)} are all zero: a weight after it starts at zero or every unit is dead; "
            "start from other weights, or take prospr, which looks some steps ahead"
        )
