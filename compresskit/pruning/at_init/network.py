"""A module as a function of its weights and of masks over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from compresskit.pruning.at_init.base import Batch, Task
from compresskit.pruning.at_init.masks import Tensors
from compresskit.training.evaluation import evaluating

aten = torch.ops.aten
Loss = Callable[[Mapping[str, Tensor], Batch], Tensor]
"""Of all weights by name and a batch, a scalar."""


def weights_of(module: nn.Module) -> Tensors:
    """The parameters, each under the first of its names, cut off from any graph."""
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def loss_of(task: Task, *, temperature: float = 1.0) -> Loss:
    """The task's loss as a function of the weights.

    Batch norms use the statistics of the batch, since at initialization they have no others, and dropout is off. The module's own
    parameters, statistics and modes stay as they are.

    Args:
        temperature: what the outputs are divided by first.
    """
    module, loss = _twice_differentiable(task.graph.module), task.loss
    assert loss is not None

    def at(weights: Mapping[str, Tensor], batch: Batch) -> Tensor:
        x, y = batch
        statistics = {name: buffer.clone() for name, buffer in module.named_buffers()}  # a batch norm writes to them
        with _batch_statistics(module), sdpa_kernel(SDPBackend.MATH), torch.enable_grad():  # fused attention has no second derivative
            out: Any = functional_call(module, {**weights, **statistics}, (x,))
            return loss(out / temperature, y)

    return at


def mask_gradients(task: Task, masks: Mapping[str, Tensor], batch: Batch) -> Tensors:
    """dL/dc of the loss L(c * w) on `batch` at c = `masks`, by name and shaped like the masks (the thesis's eq. 3.2)."""
    leaves = {name: mask.detach().requires_grad_() for name, mask in masks.items()}
    return gradients(loss_of(task)(task.masks.apply(weights_of(task.graph.module), leaves), batch), leaves)


def gradients(value: Tensor, leaves: Mapping[str, Tensor], *, create_graph: bool = False) -> Tensors:
    """The gradient of a scalar in every one of `leaves`; zeros where it does not depend on it."""
    found = torch.autograd.grad(value, list(leaves.values()), create_graph=create_graph, allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, found, strict=True))


def inner(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> Tensor:
    """The inner product of two vectors that are spread over the same names."""
    return torch.stack([torch.sum(value * right[name]) for name, value in left.items()]).sum()


def _twice_differentiable(module: fx.GraphModule) -> fx.GraphModule:
    """`module` over the same leaves, with the calls that autograd differentiates only once written out."""
    if not any(node.target is aten.hardsigmoid.default for node in module.graph.nodes):
        return module
    graph = fx.Graph()
    graph.output(graph.graph_copy(module.graph, {}))
    for node in graph.nodes:
        if node.target is aten.hardsigmoid.default:
            node.target = _hard_sigmoid
    return fx.GraphModule(module, graph)


def _hard_sigmoid(x: Tensor) -> Tensor:
    return torch.clamp(x / 6 + 0.5, 0, 1)


@contextmanager
def _batch_statistics(module: nn.Module) -> Iterator[None]:
    """Batch norms in training mode and everything else in evaluation mode inside, each in its own mode again outside."""
    with evaluating(module):
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.train()
        yield
