"""GraSP: keep what the gradient's norm, hence the pace of learning, depends on (Wang et al. 2020, "Picking winning tickets before training")."""

from __future__ import annotations

from compresskit.pruning.at_init.base import Scores, Task, require_signal, saliency
from compresskit.pruning.at_init.network import gradients, inner, loss_of, weights_of
from compresskit.pruning.sparsity import sparse_weights
from compresskit.training.objectives import is_classes


@saliency("grasp", "weights", "channels", needs_data=True)
def grasp(task: Task, *, temperature: float = 200.0) -> Scores:
    """How much the gradient's norm would fall without a weight or channel; signed.

    With g = dL/dw over all convolutions and linear layers, a weight's score is `w (Hg)`, the negative of the paper's eq. 8: removing what
    has a negative one makes the gradient grow. A channel's is the derivative of g^T dL/dw(c), g held, in its mask entry.

    Args:
        temperature: what the outputs for classes are divided by, so that a large loss alone is no large gradient (the paper's section 5.1).

    Raises:
        InputError: there is no batch.
        TargetError: a layer gets no score but zero.
    """
    batch = next(task.draw(1))
    loss = loss_of(task, temperature=temperature if is_classes(batch[1]) else 1.0)
    masks = {name: mask.requires_grad_() for name, mask in task.masks.ones().items()}
    weights = {name: weight.requires_grad_() for name, weight in weights_of(task.graph.module).items()}
    masked = task.masks.apply(weights, masks)
    flow = gradients(loss(masked, batch), {name: masked[name] for name in sparse_weights(task.graph.module)}, create_graph=True)
    scores = gradients(inner({name: gradient.detach() for name, gradient in flow.items()}, flow), masks)
    require_signal(scores)
    return Scores(scores)
