"""Connection sensitivity: how much the loss would change if a mask entry changed (Lee et al. 2019; the thesis's section 3.2)."""

from __future__ import annotations

import torch

from compresskit.pruning.at_init.base import Scores, Task, require_signal, saliency
from compresskit.pruning.at_init.masks import Tensors
from compresskit.pruning.at_init.network import mask_gradients


@saliency("snip", "weights", needs_data=True)
def snip(task: Task) -> Scores:
    """How much the loss of one batch would change without a weight; `3sp` is the same for channels."""
    return sensitivity(task)


@saliency("3sp", "channels", needs_data=True)
def three_sp(task: Task) -> Scores:
    """How much the loss of one batch would change without a channel; one pass, no training."""
    return sensitivity(task)


def sensitivity(task: Task) -> Scores:
    """`normalized` gradients of one batch's loss in all masks: eq. 3.1 for weights, algorithm 2 (3SP) for channels.

    Raises:
        InputError: there is no batch.
        TargetError: a layer gets no gradient.
    """
    return Scores(normalized(mask_gradients(task, task.masks.ones(), next(task.draw(1)))))


def normalized(found: Tensors) -> Tensors:
    """`|g_j| / sum_k |g_k|` (eq. 3.1).

    Raises:
        TargetError: a layer's are all zero.
    """
    require_signal(found)
    whole = torch.stack([gradient.abs().sum() for gradient in found.values()]).sum()
    return {name: gradient.abs() / whole for name, gradient in found.items()}
