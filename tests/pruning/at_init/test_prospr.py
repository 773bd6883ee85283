"""Meta-gradients against finite differences of a training by torch's own optimizer."""

from __future__ import annotations

import copy
import itertools
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compresskit.errors import InputError, UsageError
from compresskit.models.graph import ModelGraph
from compresskit.pruning.at_init import SALIENCIES, Task
from compresskit.pruning.at_init.base import Batch
from compresskit.pruning.at_init.meta import Descent
from compresskit.pruning.at_init.network import loss_of, weights_of

MakeTask = Callable[..., Task]
LR, MOMENTUM = 0.2, 0.8


def loss_after(task: Task, masks: dict[str, Tensor], batches: list[Batch]) -> float:
    """The loss on the last batch of the network that starts masked and takes an SGD step on each of the others."""
    module = copy.deepcopy(task.graph.module).train()
    start = task.masks.apply(weights_of(module), masks)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(start[name])
    optimizer = torch.optim.SGD(module.parameters(), lr=LR, momentum=MOMENTUM)
    for x, y in batches[:-1]:
        optimizer.zero_grad()
        F.cross_entropy(module(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        return float(F.cross_entropy(module(batches[-1][0]), batches[-1][1]))


def slopes(task: Task, batches: list[Batch], every: int) -> dict[str, Tensor]:
    """Central differences of `loss_after` in each mask entry, or in each `every`-th and zeros elsewhere."""
    ones = task.masks.ones()
    found = {}
    for name, mask in ones.items():
        found[name] = torch.zeros_like(mask)
        for index in range(0, mask.numel(), every):
            step = torch.zeros(mask.numel(), dtype=mask.dtype).index_fill(0, torch.tensor(index), 1e-5).reshape(mask.shape)
            ends = [loss_after(task, {**ones, name: mask + sign * step}, batches) for sign in (1, -1)]
            found[name].view(-1)[index] = (ends[0] - ends[1]) / 2e-5
    return found


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_meta_gradients_of_channels_are_the_slopes_of_the_loss_after_training(
    steps: int, smooth_net: ModelGraph, task: MakeTask, data: list[Batch]
) -> None:
    asked = task(smooth_net, "channels")
    wanted = {name: slope.abs() for name, slope in slopes(asked, data[: steps + 1], 1).items()}
    whole = sum(float(slope.sum()) for slope in wanted.values())
    scores = SALIENCIES["prospr"](asked, steps=steps, lr=LR, momentum=MOMENTUM).values
    for name, slope in wanted.items():
        torch.testing.assert_close(scores[name], slope / whole, rtol=1e-5, atol=1e-8)


def test_a_weight_that_layers_share_takes_its_steps_once(lifted: Callable[..., ModelGraph], task: MakeTask, data: list[Batch]) -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.one, self.two, self.last = nn.Linear(50, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
            self.two.weight = self.one.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.last(F.silu(self.two(F.silu(self.one(F.silu(self.first(x.flatten(1))))))))

    asked = task(lifted(Shared(), (None, 2, 5, 5)), "channels")
    wanted = {name: slope.abs() for name, slope in slopes(asked, data[:3], 1).items()}
    whole = sum(float(slope.sum()) for slope in wanted.values())
    scores = SALIENCIES["prospr"](asked, steps=2, lr=LR, momentum=MOMENTUM).values
    for name, slope in wanted.items():
        torch.testing.assert_close(scores[name], slope / whole, rtol=1e-5, atol=1e-8)


def test_meta_gradients_of_weights_are_the_slopes_of_the_loss_after_training(smooth_net: ModelGraph, task: MakeTask, data: list[Batch]) -> None:
    asked = task(smooth_net, "weights")
    scores = SALIENCIES["prospr"](asked, steps=2, lr=LR, momentum=MOMENTUM).values
    found = {name: slope.abs() for name, slope in slopes(asked, data[:3], 11).items()}
    taken = torch.cat([scores[name].flatten()[::11] for name in found])
    wanted = torch.cat([slope.flatten()[::11] for slope in found.values()])
    torch.testing.assert_close(taken / taken.sum(), wanted / wanted.sum(), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("granularity", "single"), [("weights", "snip"), ("channels", "3sp")])
def test_no_steps_are_the_method_of_one_shot(granularity: str, single: str, smooth_net: ModelGraph, task: MakeTask) -> None:
    asked = task(smooth_net, granularity)
    scores, wanted = SALIENCIES["prospr"](asked, steps=0).values, SALIENCIES[single](asked).values
    for name, score in scores.items():
        torch.testing.assert_close(score, wanted[name])


def test_the_first_order_is_the_last_gradient_times_the_first_weights(smooth_net: ModelGraph, task: MakeTask, data: list[Batch]) -> None:
    asked = task(smooth_net, "weights")
    weights = weights_of(asked.graph.module)
    descent = Descent(loss_of(asked), LR, MOMENTUM)
    *_, last = descent.path(weights, data)
    assert last.steps == 4
    wanted = {name: (last.gradient[name] * weights[name]).abs() for name in asked.masks.ones()}
    whole = sum(float(value.sum()) for value in wanted.values())
    scores = SALIENCIES["prospr"](asked, steps=4, lr=LR, momentum=MOMENTUM, first_order=True).values
    for name, value in wanted.items():
        torch.testing.assert_close(scores[name], value / whole)


def test_small_steps_make_the_orders_agree(smooth_net: ModelGraph, task: MakeTask) -> None:
    asked = task(smooth_net, "channels")
    exact, first = (SALIENCIES["prospr"](asked, steps=3, lr=1e-7, first_order=order).values for order in (False, True))
    for name, score in exact.items():
        torch.testing.assert_close(score, first[name], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("first_order", [False, True])
def test_steps_that_overflow_are_left_out_and_said_so(first_order: bool, smooth_net: ModelGraph, task: MakeTask) -> None:
    asked = task(smooth_net, "channels")
    scores = SALIENCIES["prospr"](asked, steps=3, lr=1e200, first_order=first_order)
    fewer = next(steps for steps in range(3) if f"took {steps} inner steps, not 3" in scores.notes[0])
    wanted = SALIENCIES["prospr"](asked, steps=fewer, lr=1e200, first_order=first_order)
    assert wanted.notes == ()
    for name, score in scores.values.items():
        torch.testing.assert_close(score, wanted.values[name])


def test_a_loss_that_is_never_finite_is_an_input_error(smooth_net: ModelGraph, task: MakeTask) -> None:
    asked = replace(task(smooth_net, "weights"), loss=lambda out, y: F.cross_entropy(out, y) * torch.inf)
    with pytest.raises(InputError, match="no finite gradient"):
        SALIENCIES["prospr"](asked)


def test_a_negative_number_of_steps_is_refused(smooth_net: ModelGraph, task: MakeTask) -> None:
    with pytest.raises(UsageError, match="-1 steps"):
        SALIENCIES["prospr"](task(smooth_net, "weights"), steps=-1)


class _Saved:
    """A tensor that some graph keeps for its backward pass; counts how many bytes all of them hold, and held at most."""

    now, most = 0, 0

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        _Saved.now += tensor.nbytes
        _Saved.most = max(_Saved.most, _Saved.now)

    def __del__(self) -> None:
        _Saved.now -= self.tensor.nbytes


def test_memory_does_not_grow_with_the_steps(smooth_net: ModelGraph, task: MakeTask) -> None:
    asked, held = task(smooth_net, "channels"), []
    for steps in (1, 4):
        _Saved.now = _Saved.most = 0
        with torch.autograd.graph.saved_tensors_hooks(_Saved, lambda saved: saved.tensor):
            SALIENCIES["prospr"](asked, steps=steps)
        held.append(_Saved.most)
    assert held[0] > 0
    assert held[1] <= held[0]


def test_the_first_order_keeps_no_more_batches_the_more_steps_it_takes(smooth_net: ModelGraph, task: MakeTask, data: list[Batch]) -> None:
    inputs: weakref.WeakSet[Tensor] = weakref.WeakSet()
    alive = []

    def stream() -> Iterator[Batch]:
        for x, y in itertools.cycle(data):
            fresh = x.clone()
            inputs.add(fresh)
            yield fresh, y
            del fresh
            alive.append(len(inputs))

    SALIENCIES["prospr"](replace(task(smooth_net, "channels"), batches=stream()), steps=20, first_order=True)
    assert len(alive) == 20
    assert max(alive) <= 3
