from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compresskit.codec.coordinates import grid
from compresskit.codec.metatrain import TrainBaseConfig, TrainedBase, train
from compresskit.errors import GuardError, InputError
from compresskit.progress import Silent

SMALL = TrainBaseConfig(width=8, depth=2, latents=4, start=5, steps=12, batch=8, points=16)
X = torch.from_numpy(grid((4, 4))).float() / 2**14


def draw(count: int, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(count, 16, 1, generator=generator)


def state(trained: TrainedBase) -> str:
    tensors = (*trained.network.siren.weights, *trained.network.siren.biases, trained.network.mapping, trained.encoder, trained.mean)
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()


class KilledError(Exception):
    """Stands for kill -9."""


class KillAt(Silent):
    """Stops a training at a step, as a crash would."""

    def __init__(self, step: int) -> None:
        self.left = step + 1  # the first call tells of the steps that were resumed

    def advance(self, count: int = 1, **figures: float) -> None:
        self.left -= 1
        if not self.left:
            raise KilledError


@pytest.mark.parametrize("step", [1, 7, 11])
def test_a_training_that_was_stopped_goes_on_to_the_same_network(tmp_path: Path, step: int) -> None:
    whole = train(draw, X, SMALL)
    config = replace(SMALL, checkpoint=tmp_path / "state", checkpoint_minutes=0.0, resume=True)
    with pytest.raises(KilledError):
        train(draw, X, config, KillAt(step))
    resumed = train(draw, X, config)
    assert state(resumed) == state(whole)
    assert state(train(draw, X, config)) == state(whole)  # nothing is left to do
    assert [number for number, _ in resumed.curve][-1] == SMALL.steps


@pytest.mark.parametrize("change", [{"lr": 1e-3}, {"steps": 13}, {"width": 9}, {"seed": 1}, {"latents": 3}], ids=str)
def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path, change: dict[str, float]) -> None:
    config = replace(SMALL, steps=2, checkpoint=tmp_path / "state", resume=True)
    train(draw, X, config)
    with pytest.raises(InputError, match="is of a training with other settings: remove it, or give the same ones"):
        train(draw, X, replace(config, **change))  # type: ignore[arg-type]


def test_a_checkpoint_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"x")
    with pytest.raises(InputError, match="is not a whole training checkpoint"):
        train(draw, X, replace(SMALL, checkpoint=tmp_path / "state", resume=True))


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    calls = iter(range(100))

    def later_nan(count: int, generator: torch.Generator) -> torch.Tensor:
        return draw(count, generator) * (float("nan") if next(calls) > 2 else 1)

    with pytest.raises(GuardError, match=r"training diverged at step 3: lower the learning rate of 0\.0004"):
        train(later_nan, X, SMALL)


def test_training_depends_on_nothing_but_its_settings() -> None:
    torch.manual_seed(1)
    first = state(train(draw, X, SMALL))
    torch.manual_seed(2)
    assert state(train(draw, X, SMALL)) == first
    assert state(train(draw, X, replace(SMALL, seed=5))) != first
