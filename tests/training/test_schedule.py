from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from compresskit.training.config import Schedule, TrainConfig
from compresskit.training.schedule import factor

schedules = st.sampled_from(["one-cycle", "cosine", "multistep", "constant"])
warmups = st.none() | st.floats(0, 0.9)


def _torch_rates(make: type[lr_scheduler.LRScheduler], total: int, **settings: object) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=1.0)
    scheduler = make(optimizer, **settings)
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def _rates(total: int, **settings: object) -> list[float]:
    config = TrainConfig(**settings)  # type: ignore[arg-type]
    return [factor(step, total, config) for step in range(total)]


@pytest.mark.parametrize("warmup", [None, 0.1, 0.55])
def test_one_cycle_is_that_of_torch(warmup: float | None) -> None:
    # Torch leaves no step after the last, hence one more than is taken.
    theirs = _torch_rates(lr_scheduler.OneCycleLR, 39, max_lr=1.0, total_steps=40, pct_start=warmup or 0.3, cycle_momentum=False)
    assert _rates(40, schedule="one-cycle", warmup=warmup)[:39] == pytest.approx(theirs, abs=1e-12)


def test_cosine_is_that_of_torch() -> None:
    assert _rates(25, schedule="cosine") == pytest.approx(_torch_rates(lr_scheduler.CosineAnnealingLR, 25, T_max=25), abs=1e-12)


def test_multistep_is_that_of_torch() -> None:
    theirs = _torch_rates(lr_scheduler.MultiStepLR, 40, milestones=[20, 30])
    assert _rates(40, schedule="multistep", milestones=(0.5, 0.75)) == pytest.approx(theirs)


def test_constant_after_a_linear_warmup() -> None:
    assert _rates(10, schedule="constant", warmup=0.4) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1])


@given(schedules, warmups, st.integers(1, 300))
def test_rates_are_positive_rise_only_while_warming_up_and_never_pass_the_highest(schedule: Schedule, warmup: float | None, total: int) -> None:
    rates = _rates(total, schedule=schedule, warmup=warmup)
    assert all(0 < rate <= 1 + 1e-12 for rate in rates)
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
