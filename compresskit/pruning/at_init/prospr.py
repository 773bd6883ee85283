"""ProsPr: prune by what the loss will be some training steps later (the thesis's section 3.3; Alizadeh et al. 2022, "Prospect Pruning")."""

from __future__ import annotations

from collections import deque

from compresskit.errors import InputError, UsageError
from compresskit.pruning.at_init.base import Batch, Scores, Task, saliency
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
    batches, taken = task.draw(steps + 1), steps
    while True:
        gradient, taken = _meta_gradient(task, Descent(loss_of(task), lr, momentum), batches[: taken + 1], first_order)
        if finite(gradient):
            break
        if taken == 0:
            raise InputError("prospr finds no finite gradient: the weights, the data or the loss of the first batch are not finite")
        taken -= 1
    fewer = (f"prospr took {taken} inner steps, not {steps}: more of them overflow",) if taken < steps else ()
    return Scores(normalized(gradient), fewer)


def _meta_gradient(task: Task, descent: Descent, batches: list[Batch], first_order: bool) -> tuple[Tensors, int]:
    """The gradient in the masks of the loss after a step on each batch but one (eq. 3.15, or 3.20), and how many of these steps stay finite."""
    masks = {name: mask.requires_grad_() for name, mask in task.masks.ones().items()}
    initial = task.masks.apply(weights_of(task.graph.module), masks)
    start = {name: weight.detach() for name, weight in initial.items()}
    points = deque(enumerate(descent.points(start, batches[:-1])), maxlen=1 if first_order else None)
    taken, weights = points.pop()
    adjoint = descent.gradient(weights, batches[taken])
    if not first_order:
        adjoint = descent.backward([point for _, point in points], batches[:taken], adjoint)
    return gradients(inner(adjoint, initial), masks), taken
