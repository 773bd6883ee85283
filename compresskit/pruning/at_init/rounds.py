"""Pruning in rounds: score, prune a little, score what is left."""

from __future__ import annotations

from collections.abc import Callable

from compresskit.errors import UsageError
from compresskit.pruning.at_init.base import Task, require_finite, require_signal
from compresskit.pruning.at_init.masks import Tensors


def in_rounds(task: Task, rounds: int, score: Callable[[Tensors], Tensors]) -> Tensors:
    """The scores of the last of `rounds`, before each of which masks kept `task.kept ** (round / rounds)`: an exponential schedule.

    Args:
        score: of the masks of a round, of zeros and ones.

    Raises:
        UsageError: `rounds` is below 1.
        InputError: a score is not finite.
        TargetError: a layer's scores are all zero before anything is masked, or a round's target is out of reach.
    """
    if rounds < 1:
        raise UsageError(f"{rounds} rounds are too few: give 1 or more")
    task.progress.stage("score", total=rounds)
    masks = task.masks.ones()
    for done in range(1, rounds + 1):
        require_finite(scores := score(masks))
        if done == 1:
            require_signal(scores)
        if done < rounds:
            masks = {name: mask.to(masks[name]) for name, mask in task.masks.select(scores, task.kept ** (done / rounds)).items()}
        task.progress.advance()
    return scores
