"""Pruning in rounds: SynFlow's conservation, FORCE's weights that come back, iterative SNIP's that do not, and the schedule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from compresskit.models.graph import ModelGraph
from compresskit.pruning.at_init import SALIENCIES, Task, choose_weights
from compresskit.pruning.at_init.rounds import in_rounds

MakeTask = Callable[..., Task]
Lift = Callable[..., ModelGraph]


def straight(lifted: Lift, *, bias: bool) -> ModelGraph:
    """Layer after layer with ReLU between: all that comes into a unit goes out of it."""
    layers = [nn.Conv2d(2, 6, 3, bias=bias), nn.ReLU(), nn.Conv2d(6, 4, 2, bias=bias), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5, bias=bias)]
    return lifted(nn.Sequential(*layers, nn.ReLU(), nn.Linear(5, 3, bias=bias)), (None, 2, 5, 5))


@pytest.mark.parametrize("rounds", [1, 4])
def test_synflow_is_conserved_from_layer_to_layer(rounds: int, lifted: Lift, task: MakeTask) -> None:
    scores = SALIENCIES["synflow"](task(straight(lifted, bias=False), "weights"), rounds=rounds).values
    sums = [float(score.sum()) for score in scores.values()]
    assert sums == pytest.approx([sums[0]] * 4)


def test_synflow_is_conserved_at_every_unit(lifted: Lift, task: MakeTask) -> None:
    scores = SALIENCIES["synflow"](task(straight(lifted, bias=False), "weights"), rounds=1).values
    first, second, third, last = scores.values()
    torch.testing.assert_close(first.sum((1, 2, 3)), second.sum((0, 2, 3)))
    torch.testing.assert_close(second.sum((1, 2, 3)), third.unflatten(1, (4, 4)).sum((0, 2)))
    torch.testing.assert_close(third.sum(1), last.sum(0))


def test_a_channel_has_the_flow_of_the_weights_that_read_it(plain_net: ModelGraph, task: MakeTask) -> None:
    channels = SALIENCIES["synflow"](task(plain_net, "channels"), rounds=1).values
    weights = SALIENCIES["synflow"](task(plain_net, "weights"), rounds=1).values
    torch.testing.assert_close(channels["inner"], weights["outer.weight"].sum((0, 2, 3)))
    torch.testing.assert_close(channels["stem"], weights["inner.weight"].sum((0, 2, 3)) + weights["head.weight"].unflatten(1, (4, 9)).sum((0, 2)))


@pytest.mark.parametrize("activation", [nn.ReLU6, nn.Hardtanh])
def test_what_saturates_is_scored_as_if_it_did_not(activation: type[nn.Module], lifted: Lift, task: MakeTask) -> None:
    def scores(between: nn.Module) -> list[Tensor]:
        layers = [nn.Conv2d(2, 60, 3), between, nn.Conv2d(60, 40, 2), between, nn.Flatten(), nn.Linear(160, 3)]
        return list(SALIENCIES["synflow"](task(lifted(nn.Sequential(*layers), (None, 2, 5, 5)), "weights"), rounds=2).values.values())

    for score, wanted in zip(scores(activation()), scores(nn.ReLU()), strict=True):
        torch.testing.assert_close(score, wanted)


def test_synflow_leaves_a_path_where_one_shot_leaves_none(lifted: Lift, task: MakeTask) -> None:
    asked = task(straight(lifted, bias=True), "weights", kept=0.03)
    masks = choose_weights(SALIENCIES["synflow"](asked, rounds=50).values, 0.03)
    assert masks.rescued == ()


def test_one_round_of_force_is_snip(smooth_net: ModelGraph, task: MakeTask) -> None:
    asked = task(smooth_net, "weights")
    snip = SALIENCIES["snip"](asked).values
    for name in ("force", "iter-snip"):
        scores = SALIENCIES[name](asked, rounds=1).values
        whole = sum(float(score.sum()) for score in scores.values())
        assert all(torch.allclose(score / whole, snip[key]) for key, score in scores.items())


@pytest.mark.parametrize("granularity", ["weights", "channels"])
def test_only_force_scores_what_it_has_pruned(granularity: str, smooth_net: ModelGraph, task: MakeTask) -> None:
    asked = task(smooth_net, granularity, kept=0.3)
    found = [SALIENCIES[name](asked, rounds=4).values.values() for name in ("force", "iter-snip")]
    force, iterative = (torch.cat([score.flatten() for score in scores]) for scores in found)
    left = 0.3 ** (3 / 4)  # before the last round
    assert float((iterative > 0).double().mean()) < left + 0.1 < float((force > 0).double().mean())


def test_rounds_keep_less_and_less_of_what_scores_best(smooth_net: ModelGraph, task: MakeTask) -> None:
    asked = task(smooth_net, "weights", kept=0.1)
    seen: list[dict[str, Tensor]] = []

    def score(masks: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(masks)
        rng = torch.Generator().manual_seed(0)
        return {name: torch.rand(mask.shape, generator=rng, dtype=torch.float64) for name, mask in masks.items()}

    in_rounds(asked, 4, score)
    kept = [torch.cat([mask.flatten() for mask in masks.values()]) for masks in seen]
    assert [float(mask.mean()) for mask in kept] == pytest.approx([0.1 ** (done / 4) for done in range(4)], abs=0.005)
    assert all((later <= earlier).all() for earlier, later in pairwise(kept))


def test_rounds_are_reported(smooth_net: ModelGraph, task: MakeTask) -> None:
    said: list[str] = []

    class Listener:
        def stage(self, name: str, total: int | None = None) -> None:
            said.append(f"{name} {total}")

        def advance(self, steps: int = 1, **figures: float) -> None:
            said.append(str(steps))

        def note(self, message: str) -> None: ...

    SALIENCIES["synflow"](replace(task(smooth_net, "weights"), progress=Listener()), rounds=2)
    assert said == ["score 2", "1", "1"]
