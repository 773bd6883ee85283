"""GraSP against a whole Hessian, and against finite differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from compresskit.models.graph import ModelGraph
from compresskit.pruning.at_init import SALIENCIES, Task
from compresskit.pruning.at_init.base import Batch
from compresskit.pruning.at_init.network import weights_of
from compresskit.pruning.sparsity import sparse_weights

MakeTask = Callable[..., Task]
TEMPERATURE = 3.0


def flat_loss(task: Task, batch: Batch) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The loss of the softened outputs in one vector of all layers' weights, and that vector."""
    weights = {name: weight.detach() for name, weight in sparse_weights(task.graph.module).items()}
    sizes = [weight.numel() for weight in weights.values()]

    def loss(vector: Tensor) -> Tensor:
        parts = {name: part.reshape(weights[name].shape) for name, part in zip(weights, vector.split(sizes), strict=True)}
        return F.cross_entropy(functional_call(task.graph.module, parts, (batch[0],)) / TEMPERATURE, batch[1])

    return loss, torch.cat([weight.flatten() for weight in weights.values()])


def test_weights_are_scored_by_hessian_times_gradient(plain_net: ModelGraph, task: MakeTask, data: list[Batch]) -> None:
    asked = task(plain_net, "weights")
    loss, vector = flat_loss(asked, data[0])
    hessian = torch.autograd.functional.hessian(loss, vector)
    gradient = torch.autograd.functional.jacobian(loss, vector)
    scores = SALIENCIES["grasp"](asked, temperature=TEMPERATURE).values
    torch.testing.assert_close(torch.cat([score.flatten() for score in scores.values()]), vector * (hessian @ gradient))


def test_only_outputs_for_classes_are_softened(plain_net: ModelGraph, task: MakeTask, data: list[Batch]) -> None:
    def scores(batches: list[Batch], loss: Callable[[Tensor, Tensor], Tensor], temperature: float) -> Tensor:
        asked = replace(task(plain_net, "weights"), batches=batches, loss=loss)
        return SALIENCIES["grasp"](asked, temperature=temperature).values["head.weight"]

    numbers = [(x, x[:, 0, :3, 0]) for x, _ in data]
    assert torch.equal(scores(numbers, F.mse_loss, 1), scores(numbers, F.mse_loss, 200))
    assert not torch.equal(scores(data, F.cross_entropy, 1), scores(data, F.cross_entropy, 200))


def test_channels_are_scored_by_the_flow_that_their_mask_lets_through(plain_net: ModelGraph, task: MakeTask, data: list[Batch]) -> None:
    asked = task(plain_net, "channels")
    loss, vector = flat_loss(asked, data[0])
    held = torch.autograd.functional.jacobian(loss, vector)
    names = list(sparse_weights(asked.graph.module))

    def flow(masks: dict[str, Tensor]) -> Tensor:
        masked = asked.masks.apply(weights_of(asked.graph.module), masks)
        return held @ torch.autograd.functional.jacobian(loss, torch.cat([masked[name].flatten() for name in names]))

    scores = SALIENCIES["grasp"](asked, temperature=TEMPERATURE).values
    for name, ones in asked.masks.ones().items():
        for index in range(len(ones)):
            step = torch.zeros_like(ones).index_fill(0, torch.tensor(index), 1e-6)
            ends = [flow({**asked.masks.ones(), name: ones + sign * step}) for sign in (1, -1)]
            assert float(scores[name][index]) == pytest.approx(float(ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-8)
