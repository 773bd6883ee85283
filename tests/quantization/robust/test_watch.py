from __future__ import annotations

import torch
from torch import Tensor

from compresskit.quantization.robust.penalties import PENALTIES
from compresskit.quantization.robust.watch import SHARE, Watched, regularized
from compresskit.training.objectives import supervised

Batch = tuple[Tensor, Tensor]


def test_a_pass_sees_every_layer_and_every_activation_that_is_rounded(watched: Watched, batch: Batch) -> None:
    run = watched.watch(*batch)
    plan = watched.network.plan
    assert len(run.weights) == len(plan.layers) == 5
    assert all(tensor.requires_grad and len(tensor) == len(batch[0]) for tensor in run.activations)
    # the graph's own input is no result of weights, and what only moves values is on the grid already
    moved = {"p", "m", "f"}
    assert len(run.activations) == len(set(plan.tensors) - moved - {"x"})


def test_nothing_is_remembered_after_a_pass(watched: Watched, batch: Batch) -> None:
    watched.watch(*batch)
    watched(batch[0])
    assert not any(module.passed for module in watched.modules() if hasattr(module, "passed"))


def test_without_strength_it_is_the_loss(watched: Watched, batch: Batch) -> None:
    value = regularized(PENALTIES["l1"], 0.0)(watched, *batch)
    assert torch.allclose(value, supervised()(watched, *batch))


def test_the_penalty_is_of_the_first_part_of_the_batch(watched: Watched, batch: Batch) -> None:
    x, y = batch
    count = len(x) // SHARE
    expected = supervised()(watched, x, y) + 0.01 * PENALTIES["l1"](watched.watch(x[:count], y[:count]))
    assert torch.allclose(regularized(PENALTIES["l1"], 0.01)(watched, x, y), expected)


def test_a_batch_of_one_is_watched_whole(watched: Watched, batch: Batch) -> None:
    x, y = batch[0][:1], batch[1][:1]
    run = watched.watch(x, y)
    assert torch.allclose(regularized(PENALTIES["l2"], 0.5)(watched, x, y), run.loss + 0.5 * PENALTIES["l2"](run))
