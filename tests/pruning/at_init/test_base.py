"""Every saliency: what it gives back, what it refuses, and that it leaves the network as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from compresskit.errors import InputError, TargetError, UsageError
from compresskit.models.graph import ModelGraph
from compresskit.pruning.at_init import SALIENCIES, Task

MakeTask = Callable[..., Task]
Lift = Callable[..., ModelGraph]
SETTINGS: dict[str, dict[str, int]] = {"force": {"rounds": 3}, "iter-snip": {"rounds": 3}, "synflow": {"rounds": 5}}
ALL = [(name, granularity) for name, entry in SALIENCIES.items() for granularity in entry.granularities]
BY_GRADIENT = [(name, granularity) for name, granularity in ALL if name not in ("random", "magnitude")]


def values(name: str, task: Task) -> dict[str, Tensor]:
    return SALIENCIES[name](task, **SETTINGS.get(name, {})).values


def test_methods_have_the_names_that_users_type() -> None:
    assert set(SALIENCIES) == {"snip", "3sp", "grasp", "synflow", "force", "iter-snip", "prospr", "magnitude", "random"}
    assert all(entry.summary.endswith(".") for entry in SALIENCIES.values())


@pytest.mark.parametrize(("name", "granularity"), ALL)
def test_everything_gets_a_score_and_the_network_stays(name: str, granularity: str, smooth_net: ModelGraph, task: MakeTask) -> None:
    asked = task(smooth_net, granularity)
    before = copy.deepcopy(asked.graph.module.state_dict())
    modes = [part.training for part in asked.graph.module.modules()]
    scores = values(name, asked)
    assert {key: score.shape for key, score in scores.items()} == {key: mask.shape for key, mask in asked.masks.ones().items()}
    assert all(score.isfinite().all() and score.any() and not score.requires_grad for score in scores.values())
    assert all(torch.equal(score, values(name, asked)[key]) for key, score in scores.items())
    assert all(torch.equal(before[key], value) for key, value in asked.graph.module.state_dict().items())
    assert [part.training for part in asked.graph.module.modules()] == modes
    assert all(parameter.grad is None and parameter.requires_grad for parameter in asked.graph.module.parameters())


@pytest.mark.parametrize(("name", "granularity"), BY_GRADIENT)
def test_dropout_draws_nothing(name: str, granularity: str, lifted: Lift, task: MakeTask) -> None:
    layers = [nn.Flatten(), nn.Linear(50, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)]
    asked = task(lifted(nn.Sequential(*layers), (None, 2, 5, 5)), granularity)
    scores = values(name, asked)
    assert all(torch.equal(score, values(name, asked)[key]) for key, score in scores.items())


@pytest.mark.parametrize(("name", "granularity"), [entry for entry in BY_GRADIENT if entry[0] != "synflow"])  # its inputs are all alike
def test_attention_has_all_derivatives(name: str, granularity: str, lifted: Lift, task: MakeTask) -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value, self.last = nn.Linear(25, 4), nn.Linear(25, 4), nn.Linear(25, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = x.flatten(2)
            return self.last(nn.functional.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x))).mean(1)

    assert all(score.any() for score in values(name, task(lifted(Attention(), (None, 2, 5, 5)), granularity)).values())


@pytest.mark.parametrize("activation", [nn.Hardsigmoid, nn.Hardswish, nn.ReLU6, nn.Sigmoid, nn.GELU, nn.ELU, nn.Mish, nn.Softplus, nn.LeakyReLU])
@pytest.mark.parametrize("name", ["prospr", "grasp"])
def test_activations_have_second_derivatives(activation: type[nn.Module], name: str, lifted: Lift, task: MakeTask) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(50, 8), activation(), nn.Linear(8, 3))
    asked = task(lifted(net, (None, 2, 5, 5)), "channels")
    assert all(score.any() for score in values(name, asked).values())


def test_chance_comes_from_the_seed(smooth_net: ModelGraph, task: MakeTask) -> None:
    asked = task(smooth_net, "weights")
    assert not torch.equal(values("random", asked)["head.weight"], values("random", replace(asked, seed=1))["head.weight"])


def test_magnitude_is_the_absolute_weight(smooth_net: ModelGraph, task: MakeTask) -> None:
    scores = values("magnitude", task(smooth_net, "weights"))
    torch.testing.assert_close(scores["stem.weight"], smooth_net.module.get_parameter("stem.weight").detach().abs())


@pytest.mark.parametrize(("name", "granularity", "others"), [("snip", "channels", "3sp"), ("3sp", "weights", "snip")])
def test_a_method_says_what_it_cannot_score(name: str, granularity: str, others: str, smooth_net: ModelGraph, task: MakeTask) -> None:
    with pytest.raises(UsageError, match=f"'{name}' scores .*, not {granularity}: choose from .*{others}"):
        values(name, task(smooth_net, granularity))


@pytest.mark.parametrize("name", [name for name, entry in SALIENCIES.items() if entry.needs_data])
def test_a_method_that_needs_data_says_which_need_none(name: str, smooth_net: ModelGraph, task: MakeTask) -> None:
    asked = replace(task(smooth_net, SALIENCIES[name].granularities[0]), batches=None)
    with pytest.raises(UsageError, match=f"'{name}' needs data: give --data, or choose from random, magnitude, synflow"):
        values(name, asked)


@pytest.mark.parametrize(("name", "settings"), [("snip", {}), ("force", {"rounds": 3}), ("prospr", {"steps": 2})])
def test_too_few_batches_are_refused(name: str, settings: dict[str, int], smooth_net: ModelGraph, task: MakeTask) -> None:
    asked = task(smooth_net, "weights")
    with pytest.raises(InputError, match="batches of data are too few"):
        SALIENCIES[name](replace(asked, batches=list(asked.draw(2 if settings else 0))), **settings)


@pytest.mark.parametrize("name", ["force", "synflow"])
def test_no_rounds_are_refused(name: str, smooth_net: ModelGraph, task: MakeTask) -> None:
    with pytest.raises(UsageError, match="0 rounds are too few"):
        SALIENCIES[name](task(smooth_net, "weights"), rounds=0)


@pytest.mark.parametrize(("name", "granularity"), [entry for entry in BY_GRADIENT if entry[0] != "prospr"])
def test_a_branch_that_starts_at_zero_is_named(name: str, granularity: str, smooth_net: ModelGraph, task: MakeTask) -> None:
    net = smooth_net.with_module(copy.deepcopy(smooth_net.module))
    nn.init.zeros_(net.module.get_parameter("outer_norm.weight"))
    with pytest.raises(TargetError, match=r"the gradients of inner.* are all zero.*take prospr"):
        values(name, task(net, granularity))


@pytest.mark.parametrize("granularity", ["weights", "channels"])
def test_prospr_sees_past_a_branch_that_starts_at_zero(granularity: str, smooth_net: ModelGraph, task: MakeTask) -> None:
    net = smooth_net.with_module(copy.deepcopy(smooth_net.module))
    nn.init.zeros_(net.module.get_parameter("outer_norm.weight"))
    assert all(score.any() for score in values("prospr", task(net, granularity)).values())


@pytest.mark.parametrize(("name", "granularity"), [entry for entry in ALL if entry[0] not in ("random", "magnitude")])
def test_weights_that_are_not_finite_are_an_input_error(name: str, granularity: str, smooth_net: ModelGraph, task: MakeTask) -> None:
    net = smooth_net.with_module(copy.deepcopy(smooth_net.module))
    with torch.no_grad():
        net.module.get_parameter("head.weight")[0, 0] = torch.nan
    with pytest.raises(InputError, match=r"(not|no) finite"):
        values(name, task(net, granularity))


def test_a_network_without_weights_is_refused(task: MakeTask, lifted: Lift) -> None:
    class Norm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x).mean((2, 3))

    for granularity in ("weights", "channels"):
        with pytest.raises(TargetError, match=f"no {granularity} that could go"):
            values("random", task(lifted(Norm(), (None, 2, 5, 5)), granularity))
