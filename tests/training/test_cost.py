"""What a training costs, against what can be counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compresskit.data.dataset import Split
from compresskit.models.graph import Normalization
from compresskit.training import TrainConfig
from compresskit.training.cost import Alive, _Sample, training_cost

CONFIG = TrainConfig(batch_size=8, precision="fp32")


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None: ...


def samples(count: int) -> _Sample:
    rng = np.random.default_rng(0)
    return _Sample(Split(rng.normal(size=(count, 50)).astype(np.float32), rng.integers(0, 3, count)), Normalization((0.0,), (1.0,)))


def test_tensors_count_while_they_live() -> None:
    base = torch.ones(1000)
    with Alive() as alive:
        first = base + 1
        view = first.view(10, 100)
        view.mul_(2)
        assert alive.now == 4000
        second = first * 2
        assert alive.now == 8000
        del first
        assert alive.now == 8000  # the view holds it
        del view, second
        assert alive.now == 0
    assert alive.peak == 8000


def test_what_a_backward_pass_needs_counts() -> None:
    weight = torch.ones(1000, requires_grad=True)
    with Alive() as alive:
        out = ((weight * 2).exp().exp()).sum()  # keeps two results of exp
        held = alive.now
        out.backward()
    assert held == 2 * 4000 + 4
    assert alive.peak >= held + 4000


def test_an_epoch_costs_its_number_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 1.0, 3.0, 5.0])  # the median step takes two seconds
    monkeypatch.setattr("compresskit.training.cost._clock", lambda device: lambda: next(ticks))
    assert training_cost(nn.Linear(50, 3), samples(85), CONFIG).epoch_seconds == 2.0 * 11


@pytest.mark.parametrize("count", [1, 5, 8, 200])
def test_the_model_stays_as_it_was(count: int) -> None:
    module = nn.Linear(50, 3)
    before = [parameter.clone() for parameter in module.parameters()]
    cost = training_cost(module, samples(count), replace(CONFIG, epochs=0.1))
    assert all(map(torch.equal, before, module.parameters()))
    assert cost.epoch_seconds > 0
    assert cost.batch == 8


def test_memory_holds_weights_gradients_and_momenta() -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(50, 3))
            self.idle = nn.Parameter(torch.zeros(1000, 1000))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight + self.idle[0, 0]

    narrow, wide = (training_cost(module, samples(8), CONFIG).peak_bytes for module in (nn.Linear(50, 3), Wide()))
    assert 3 * 4_000_000 <= wide - narrow <= 8 * 4_000_000


def test_memory_grows_with_the_batch() -> None:
    module = nn.Sequential(nn.Linear(50, 500), nn.ReLU(), nn.Linear(500, 3))
    small, large = (training_cost(module, samples(300), replace(CONFIG, batch_size=size)).peak_bytes for size in (10, 100))
    assert large - small >= 90 * 500 * 4
