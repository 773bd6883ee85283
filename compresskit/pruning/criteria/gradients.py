"""Weight times gradient, batch by batch: what the criteria that look at the loss are made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from compresskit.errors import InputError
from compresskit.pruning.criteria.base import Context, per_channel
from compresskit.pruning.groups import Group


def weight_times_gradient(context: Context) -> Iterator[dict[str, Tensor]]:
    """For each batch, `w * dL/dw` of every parameter in a group, by name and shaped like it; L is the batch's mean loss.

    Norms use their running statistics and dropout is off. Neither the parameters' `grad` nor their `requires_grad` is touched.

    Raises:
        InputError: there is not one batch.
    """
    parameters = context.parameters()
    wanted = dict.fromkeys(piece.parameter for group in context.groups for piece in group.slices if piece.parameter in parameters)
    twins = {parameters[name]: parameters[name].detach().requires_grad_() for name in wanted}
    named = {name: twins[parameter] for name, parameter in parameters.items() if parameter in twins}
    empty = True
    for x, y in context.batches or ():
        empty = False
        with _evaluating(context.module), torch.enable_grad():
            loss = context.loss(functional_call(context.module, named, (x,)), y)  # type: ignore[misc]
            gradients = dict(zip(twins, torch.autograd.grad(loss, list(twins.values()), allow_unused=True, materialize_grads=True), strict=True))
        yield {name: twin.detach() * gradients[parameters[name]] for name, twin in named.items()}
    if empty:
        raise InputError("no data to compute gradients on: expected at least one batch")


def channel_sums(group: Group, values: dict[str, Tensor]) -> Tensor:
    """Sum over everything of the group that belongs to each channel: (size,)."""
    return sum(
        (per_channel(piece, values[piece.parameter], group.size) for piece in group.slices if piece.parameter in values), torch.zeros(group.size)
    )


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards each submodule's own mode again."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training
