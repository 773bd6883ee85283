"""The error that readers of a channel are left with, against least squares in full for every choice of what goes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compresskit.pruning.compensation import RIDGE
from compresskit.pruning.criteria import CRITERIA, Context
from compresskit.pruning.criteria import reconstruction as module_of_it
from compresskit.pruning.criteria.magnitude import NORMS
from compresskit.pruning.groups import Group, Slices


def piece(parameter: str, dim: int, role: str, channels: list[int], start: int = 0) -> Slices:
    return Slices(parameter, dim, role, np.arange(len(channels)) + start, np.array(channels))  # type: ignore[arg-type]


def score(module: nn.Module, group: Group, x: Tensor) -> Tensor:
    (found,) = CRITERIA["reconstruction"](Context(module, (group,), [(x, torch.zeros(len(x)))], nn.functional.mse_loss))
    return found


@pytest.fixture
def two() -> nn.ModuleDict:
    """Two linear layers that read the same six entries; 0 and 1 are one channel, and so are 2 and 3."""
    torch.manual_seed(0)

    class Two(nn.ModuleDict):
        def forward(self, x: Tensor) -> Tensor:
            return self["a"](x).sum(1) + self["b"](x[:, 2:]).sum(1)

    return Two({"a": nn.Linear(6, 5), "b": nn.Linear(4, 3)})


SHARED = Group("shared", 4, (piece("a.weight", 1, "in", [0, 0, 1, 1, 2, 3]), piece("b.weight", 1, "in", [1, 1, 2, 3])))


def error(layer: nn.Linear, x: Tensor, gone: list[int]) -> float:
    """What is left of the outputs' variance after the best fit to the other entries, as a fraction; in full."""
    x = x.double() - x.double().mean(0)
    covariance = x.T @ x / len(x)
    weight = layer.weight.detach().double()
    ridged = covariance + RIDGE * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=torch.float64)
    stay = [entry for entry in range(x.shape[1]) if entry not in gone]
    fitted = torch.zeros_like(weight)
    fitted[:, stay] = torch.linalg.solve(ridged[stay][:, stay], (weight @ ridged[:, stay]).T).T
    change = weight - fitted
    return float((change @ ridged * change).sum() / (weight @ covariance * weight).sum())


def test_the_error_is_that_of_least_squares(two: nn.ModuleDict) -> None:
    """At every stage the channel goes whose loss, in full, is least, and its score is the error of both readers without all that went."""
    x = torch.randn(500, 6) @ torch.randn(6, 6)
    found = score(two, SHARED, x)
    entries: dict[int, tuple[list[int], list[int]]] = {0: ([0, 1], []), 1: ([2, 3], [0, 1]), 2: ([4], [2]), 3: ([5], [3])}

    def without(channels: list[int]) -> float:
        lost = [[entry for channel in channels for entry in entries[channel][index]] for index in range(2)]
        return error(two["a"], x, lost[0]) + error(two["b"], x[:, 2:], lost[1])

    gone: list[int] = []
    for channel in found.argsort().tolist():
        best = min((other for other in entries if other not in gone), key=lambda other: without([*gone, other]))
        assert channel == best
        gone.append(channel)
        assert float(found[channel]) == pytest.approx(without(gone), rel=1e-3)


def test_a_copy_is_not_missed_but_the_last_of_two_is() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4))
    x = torch.randn(200, 2)
    found = score(module, Group("g", 3, (piece("0.weight", 1, "in", [0, 1, 2]),)), torch.cat([x, x[:, :1]], dim=1))
    first = min(float(found[0]), float(found[2]))
    assert first < 1e-3
    assert sorted(found.tolist())[1] > 0.05


def test_kernels_count_as_a_whole() -> None:
    """A convolution over single pixels reads what a linear layer does."""
    torch.manual_seed(0)
    conv, linear = nn.Sequential(nn.Conv2d(5, 3, 1)), nn.Sequential(nn.Linear(5, 3))
    linear[0].weight.data = conv[0].weight.data.flatten(1)
    x = torch.randn(300, 5)
    group = Group("g", 5, (piece("0.weight", 1, "in", [0, 1, 2, 3, 4]),))
    assert torch.allclose(score(conv, group, x[:, :, None, None]), score(linear, group, x), rtol=1e-3)


def test_wide_groups_go_several_at_once(two: nn.ModuleDict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_of_it, "ROUNDS", 2)
    found = score(two, SHARED, torch.randn(100, 6))
    assert sorted((found[:, None] == found).sum(1).tolist()) == [2, 2, 2, 2]


@pytest.mark.parametrize("make", [lambda: nn.Conv2d(4, 4, 3, groups=4), lambda: nn.Conv2d(4, 4, 3, padding="same")])
def test_what_cannot_be_refitted_goes_by_magnitude(make: Callable[[], nn.Module]) -> None:
    module = nn.Sequential(make())
    group = Group("g", 4, (piece("0.weight", 0, "out", [0, 1, 2, 3]),))
    context = Context(module, (group,), [(torch.randn(2, 4, 5, 5), torch.zeros(2))], nn.functional.mse_loss)
    assert torch.equal(CRITERIA["reconstruction"](context)[0], NORMS["l2"].scores(context)[0])


def test_dead_inputs_are_worth_nothing() -> None:
    module = nn.Sequential(nn.Linear(3, 4))
    x = torch.randn(50, 3)
    x[:, 1] = 2.0
    found = score(module, Group("g", 3, (piece("0.weight", 1, "in", [0, 1, 2]),)), x)
    assert found.argmin() == 1
    assert found[1] < 0.01
    assert score(module, Group("g", 3, (piece("0.weight", 1, "in", [0, 1, 2]),)), torch.zeros(9, 3)).isfinite().all()
