"""The multiplier found on the way: masks stay non-negative, the ramp is kept step by step from any start, floors hold, and nothing is remembered."""

from __future__ import annotations

import pytest
import torch

from compresskit.models.graph import ModelGraph
from compresskit.pruning.footprint import footprint
from compresskit.pruning.groups import Prunable, find_groups
from compresskit.pruning.surrogate.control import Control
from compresskit.pruning.surrogate.cost import Surrogate
from compresskit.pruning.surrogate.masks import Masked
from compresskit.pruning.surrogate.norms import NORMS

STEPS = 60


@pytest.fixture(scope="module")
def priced(digits_net: ModelGraph) -> tuple[Prunable, Surrogate]:
    prunable = find_groups(digits_net)
    return prunable, Surrogate(prunable, footprint(prunable.graph, prunable.coupling, "flops"))


def _control(priced: tuple[Prunable, Surrogate], start: torch.Tensor, *, kept: float = 0.3, floor: int = 1, norm: str = "l1l2") -> Control:
    prunable, surrogate = priced
    floors = torch.full((len(prunable.groups),), floor)
    return Control(Masked(prunable, start, torch.zeros(6, 3)), surrogate, NORMS[norm], kept * surrogate.whole, floors, STEPS, 0.02)


def _noise(channels: int, seed: int) -> torch.Tensor:
    return torch.randn(channels, generator=torch.Generator().manual_seed(seed))


def _run(control: Control, noise: float, seed: int, begin: int = 0) -> None:
    """Steps of an optimizer that does nothing but shake the masks."""
    for step in range(begin, STEPS):
        control.masked.mask.data += noise * _noise(len(control.masked.mask), seed + step)
        control(step + 1)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kept", [0.3, 0.8])
@pytest.mark.parametrize(("seed", "noise"), [(0, 0.0), (1, 0.01)])
def test_the_goal_is_reached_from_any_start(priced: tuple[Prunable, Surrogate], seed: int, noise: float, kept: float, norm: str) -> None:
    surrogate = priced[1]
    start = torch.rand(len(surrogate.owner), generator=torch.Generator().manual_seed(seed)) * 0.8 + 0.2
    control = _control(priced, start, kept=kept, norm=norm)
    _run(control, noise, seed)
    mask = control.masked.mask
    reached = float(surrogate.standing(mask)) / surrogate.whole
    assert reached == pytest.approx(kept, abs=0.08)  # one channel may be worth some percent, and the plan has the last word
    assert (mask >= 0).all()
    assert float(control.masked.log[-1, 1]) == pytest.approx(reached)


def test_costs_follow_the_ramp_and_masks_end_at_exact_zeros(priced: tuple[Prunable, Surrogate]) -> None:
    surrogate = priced[1]
    control = _control(priced, torch.rand(len(surrogate.owner), generator=torch.Generator().manual_seed(0)) * 0.8 + 0.2)
    _run(control, 0.0, 0)
    ramp = 1 - 0.7 * (torch.arange(6) + 1) / 6
    assert torch.allclose(control.masked.log[1:, 1], ramp[1:], atol=0.08)
    assert (control.masked.log[:, 2] >= 0).all()
    assert (control.masked.mask == 0).sum() > 0.2 * len(surrogate.owner)


@pytest.mark.parametrize("floor", [1, 6])
def test_no_group_falls_below_its_floor(priced: tuple[Prunable, Surrogate], floor: int) -> None:
    surrogate = priced[1]
    start = torch.rand(len(surrogate.owner), generator=torch.Generator().manual_seed(0)) * 0.8 + 0.2
    control = _control(priced, start, kept=0.01, floor=floor)
    _run(control, 0.0, 0)
    alive = surrogate.per_group(surrogate.alive(control.masked.mask).float())
    assert (alive >= floor - 1).all()  # the last step may close one more, which the plan puts back
    assert (alive >= 1).all()


def test_where_the_cost_is_low_enough_nothing_moves_but_what_is_negative(priced: tuple[Prunable, Surrogate]) -> None:
    control = _control(priced, torch.linspace(0.2, 1, len(priced[1].owner)), kept=1.0)
    before = control.masked.mask.detach().clone()
    control.masked.mask.data[3] = -0.5
    control(STEPS)
    assert control.masked.mask[3] == 0
    assert torch.equal(control.masked.mask[4:], before[4:])


def test_a_second_control_goes_on_where_the_first_stopped(priced: tuple[Prunable, Surrogate]) -> None:
    start = torch.linspace(0.2, 1, len(priced[1].owner))
    whole, first = _control(priced, start), _control(priced, start)
    _run(whole, 0.01, 0)
    for step in range(STEPS // 2):
        first.masked.mask.data += 0.01 * _noise(len(start), step)
        first(step + 1)
    second = _control(priced, start)
    second.masked.load_state_dict(first.masked.state_dict())
    _run(second, 0.01, 0, begin=STEPS // 2)
    assert torch.equal(whole.masked.mask, second.masked.mask)
    assert torch.equal(whole.masked.log, second.masked.log)


def test_a_group_that_the_optimizer_empties_keeps_its_last_entry(priced: tuple[Prunable, Surrogate]) -> None:
    control = _control(priced, torch.linspace(0.2, 1, len(priced[1].owner)))
    owner = priced[1].owner
    control.masked.mask.data[owner == 2] = -torch.arange(1.0, 1 + int((owner == 2).sum()))
    control(1)
    left = control.masked.mask[owner == 2]
    assert left[0] > 0
    assert (left[1:] == 0).all()
    assert priced[1].alive(control.masked.mask)[owner == 2].sum() == 1
