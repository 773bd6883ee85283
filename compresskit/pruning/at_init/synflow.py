"""SynFlow: prune without data, round by round, so that no layer is cut off (Tanaka et al. 2020, "Pruning neural networks without any data")."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from compresskit.models.graph import ModelGraph, input_shapes
from compresskit.pruning.at_init.base import Scores, Task, saliency
from compresskit.pruning.at_init.masks import Tensors
from compresskit.pruning.at_init.network import gradients, weights_of
from compresskit.pruning.at_init.rounds import in_rounds
from compresskit.training.evaluation import evaluating

TRICKLE = 2.0**-160  # so little that nothing saturates (ReLU6, sigmoid), and far enough from the smallest float64

_BatchNorm = nn.modules.batchnorm._BatchNorm
_Factors = (nn.Linear, nn.modules.conv._ConvNd, _BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.PReLU)


@saliency("synflow", "weights", "channels", needs_data=False)
def synflow(task: Task, *, rounds: int = 100) -> Scores:
    """The strength of all paths through a weight or channel, in rounds and without data.

    With R the sum of what the network of absolute weights makes of an input of ones, a weight's score is `c dR/dc` = |w| dR/d|w| (the
    paper's eq. 4), and a channel's the same of its mask entry. Sums of paths outgrow float32 in deep networks: all is float64.

    Inputs and whatever else is added (biases, position embeddings) are scaled down together. With ReLU that scales R and nothing else;
    other activations are met where they are all but linear, at zero.

    Raises:
        TargetError: a layer has no path from input to output.
    """
    graph = task.graph
    factors = {f"{name}.weight" for name, part in graph.module.named_modules() if isinstance(part, _Factors)}
    weights = {name: weight.double().abs() * (1 if name in factors else TRICKLE) for name, weight in weights_of(graph.module).items()}

    def score(masks: Tensors) -> Tensors:
        leaves = {name: mask.double().requires_grad_() for name, mask in masks.items()}
        found = gradients(_paths(graph, task.masks.apply(weights, leaves)) / TRICKLE, leaves)
        return {name: (gradient * leaves[name]).detach() for name, gradient in found.items()}

    return Scores(in_rounds(task, rounds, score))


def _paths(graph: ModelGraph, weights: Tensors) -> Tensor:
    """The sum of all outputs for a `TRICKLE` at every input. Batch norms scale as they do in evaluation, but do not shift."""
    device = next(iter(weights.values())).device
    shapes = input_shapes(graph.inputs, 1, free_batch=graph.free_batch)
    fill = [TRICKLE if spec.dtype.is_floating_point else 1 for spec in graph.inputs]
    dtypes = [torch.float64 if spec.dtype.is_floating_point else spec.dtype for spec in graph.inputs]
    inputs = tuple(torch.full(shape, value, dtype=dtype, device=device) for shape, value, dtype in zip(shapes, fill, dtypes, strict=True))
    with evaluating(graph.module), torch.enable_grad():
        out = functional_call(graph.module, {**weights, **_unshifted(graph.module)}, inputs)
    return torch.stack([part.sum() for part in (out if isinstance(out, list | tuple) else [out])]).sum()


def _unshifted(module: nn.Module) -> Tensors:
    """The buffers in float64, with means of zero in place of those of batch norms."""
    buffers = {name: buffer.double() if buffer.is_floating_point() else buffer for name, buffer in module.named_buffers()}
    means = {f"{name}.running_mean" for name, part in module.named_modules() if isinstance(part, _BatchNorm)}
    return {name: torch.zeros_like(buffer) if name in means else buffer for name, buffer in buffers.items()}
