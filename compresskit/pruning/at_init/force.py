"""Connection sensitivity of the network that is left, round by round (de Jorge et al. 2021, "Progressive skeletonization")."""

from __future__ import annotations

from compresskit.pruning.at_init.base import Scores, Task, saliency
from compresskit.pruning.at_init.masks import Tensors
from compresskit.pruning.at_init.network import mask_gradients
from compresskit.pruning.at_init.rounds import in_rounds

ROUNDS = 60  # of the paper's experiments; each takes a new batch


@saliency("force", "weights", "channels", needs_data=True)
def force(task: Task, *, rounds: int = ROUNDS) -> Scores:
    """Sensitivity in the pruned network, in rounds; what was pruned may come back.

    A weight that is masked is scored as if it were there, in the gradient of the network without it: |dL(c w)/dc| at the round's c
    (the paper's eq. 6).

    Raises:
        InputError: there are fewer batches than rounds.
        TargetError: a layer gets no gradient.
    """
    return _progressive(task, rounds, recover=True)


@saliency("iter-snip", "weights", "channels", needs_data=True)
def iterative_snip(task: Task, *, rounds: int = ROUNDS) -> Scores:
    """Sensitivity in the pruned network, in rounds; what was pruned stays so.

    Raises:
        InputError: there are fewer batches than rounds.
        TargetError: a layer gets no gradient.
    """
    return _progressive(task, rounds, recover=False)


def _progressive(task: Task, rounds: int, *, recover: bool) -> Scores:
    batches = task.draw(rounds)

    def score(masks: Tensors) -> Tensors:
        found = mask_gradients(task, masks, next(batches))
        return {name: (gradient if recover else gradient * masks[name]).abs() for name, gradient in found.items()}

    return Scores(in_rounds(task, rounds, score))
