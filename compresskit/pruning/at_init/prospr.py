"""ProsPr: prune by what the loss will be some training steps later (the thesis's section 3.3; Alizadeh et al. 2022, "Prospect Pruning")."""

from __future__ import annotations

from collections import deque

from compresskit.errors import InputError, UsageError
from compresskit.pruning.at_init.base import Scores, Task, saliency
from compresskit.pruning.at_init.masks import Tensors
from compresskit.pruning.at_init.meta import Descent, finite
from compresskit.pruning.at_init.network import gradients, inner, loss_of, weights_of
from compresskit.pruning.at_init.sensitivity import normalized


@saliency("prospr", "weights", "channels", needs_data=True)
def prospr(task: Task, *, steps: int = 3, lr: float = 0.1, momentum: float = 0.9, first_order: bool = False) -> Scores:
    """How much the loss after some training steps would change without a weight or channel.

    The mask acts on the initial weights alone (eq. 3.6); `steps` steps follow, each on a new batch, and the loss of one batch more is
    differentiated back to the mask. No steps give `snip` and `3sp`. Steps that overflow are left out, and a note says so.

    Args:
        steps: M; appendix A.4.2 takes 3, and 1024 of the first order on ImageNet.
        lr: of the steps; appendix A.4.2's first learning rate.
        first_order: take the steps' Jacobians for identities (section 3.3.2): needs no second derivatives, and no memory that grows with M.

    Raises:
        UsageError: `steps` is negative.
        InputError: there are not `steps` + 1 batches, or even the initial weights have no finite gradient.
        TargetError: a layer gets no gradient.
    """
    if steps < 0:
        raise UsageError(f"{steps} steps are not possible: give 0 or more")
    weights, descent = weights_of(task.graph.module), Descent(loss_of(task), lr, momentum)
    path = deque(descent.path(weights, task.draw(steps + 1)), maxlen=1 if first_order else None)
    while path:
        last = path.pop()
        gradient = _in_masks(task, weights, last.gradient if first_order else descent.backward(path, last.gradient))
        if finite(gradient):
            note = f"prospr took {last.steps} inner steps, not {steps}: more of them overflow"
            return Scores(normalized(gradient), (note,) if last.steps < steps else ())
    raise InputError("prospr finds no finite gradient: the weights, the data or the loss of the first batch are not finite")


def _in_masks(task: Task, weights: Tensors, adjoint: Tensors) -> Tensors:
    """dL/dc from `adjoint` = dL/dw_0, with w_0 = c * `weights` at c = 1 (the last factor of eq. 3.11)."""
    masks = {name: mask.requires_grad_() for name, mask in task.masks.ones().items()}
    return gradients(inner(adjoint, task.masks.apply(weights, masks)), masks)
