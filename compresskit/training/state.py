"""All that a run needs to go on from a step, as tensors and plain types."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from compresskit.training.evaluation import Evaluation


@dataclass(frozen=True)
class EpochRecord:
    """One line of a run's history.

    Attributes:
        loss: mean over the epoch's steps of the training objective.
        lr: learning rate of its last step, of the optimizer's first group.
        seconds: what it took, validation included.
        validation: of the model after it, in the precision of training; None without a validation split.
    """

    loss: float
    lr: float
    seconds: float
    validation: Evaluation | None


@dataclass(frozen=True)
class State:
    """A run after `step` steps. The order of the data, and every random number, follow from the seed and the step.

    Attributes:
        module, optimizer: copies of what their `state_dict` returns.
        history: of the epochs that are over.
        loss_sum, seconds: of the epoch that is not.
    """

    step: int
    module: dict[str, Tensor]
    optimizer: dict[str, Any]
    history: tuple[EpochRecord, ...] = ()
    loss_sum: float = 0.0
    seconds: float = 0.0

    def payload(self) -> dict[str, Any]:
        """As plain types, for a checkpoint."""
        return {**vars(self), "history": [asdict(record) for record in self.history]}

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> State:
        """The inverse of `payload`."""
        return cls(**{**payload, "history": tuple(_record(**entry) for entry in payload["history"])})


def _record(validation: dict[str, Any] | None, **figures: float) -> EpochRecord:
    return EpochRecord(**figures, validation=Evaluation(**validation) if validation else None)


def copied(tree: Any) -> Any:
    """`tree` of dictionaries, with every tensor in it cloned."""
    if isinstance(tree, Tensor):
        return tree.detach().clone()
    if isinstance(tree, dict):
        return {key: copied(value) for key, value in tree.items()}
    return tree


def seed_for(seed: int, stream: int, index: int, rank: int = 0) -> int:
    """A seed of its own for each of a run's random events: number `index` of one of its streams of events."""
    return int(np.random.SeedSequence((seed, stream, index, rank)).generate_state(1, np.uint64)[0])


def digest(data: bytes) -> str:
    """A short fingerprint of contents."""
    return hashlib.sha256(data).hexdigest()[:16]
