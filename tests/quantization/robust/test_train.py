from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from compresskit.data import Dataset, Split
from compresskit.errors import InputError, UsageError
from compresskit.models.graph import Normalization
from compresskit.quantization.plan import make_plan
from compresskit.quantization.prepare import prepare
from compresskit.quantization.robust import train as search
from compresskit.quantization.robust.config import RobustConfig
from compresskit.quantization.robust.train import Robust, make_robust
from compresskit.training.tuning import Checkpointing

CONFIG = RobustConfig(epochs=1, batch_size=16, learning_rate=1e-3)


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Five classes of 3x8x8 inputs, each brighter in other rows."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, 160)
    x = rng.standard_normal((160, 3, 8, 8)).astype(np.float32)
    x[np.arange(160), :, y] += 1.5
    return Dataset(Split(x[:96], y[:96]), Split(x[96:], y[96:]), None, Normalization((0.0,), (1.0,)), "made up", 5)


@pytest.fixture
def made(residual: onnx.ModelProto, data: Dataset) -> Callable[..., Robust]:
    network = prepare(residual, "m")
    return lambda config=CONFIG, **more: make_robust(network, make_plan(network), data, config, **more)


def test_the_penalty_falls_where_it_is_in_force(made: Callable[..., Robust]) -> None:
    done = made(replace(CONFIG, strength=0.01, epochs=3))
    plain, penalized = done.trials
    assert (plain.strength, penalized.strength, done.strength) == (0.0, 0.01, 0.01)
    assert plain.penalty_before == penalized.penalty_before
    assert penalized.penalty_after < min(plain.penalty_after, penalized.penalty_before)


def test_only_weights_and_biases_change(made: Callable[..., Robust], residual: onnx.ModelProto) -> None:
    before, after = prepare(residual, "m"), made(replace(CONFIG, method="none")).network
    assert before.nodes == after.nodes
    changed = {name for name, value in after.constants.items() if not np.array_equal(value, before.constants[name])}
    assert changed == {"w0", "w1", "w2", "w3", "w4", "b0", "b1", "b3", "b4"}


def test_weights_that_pruning_set_to_zero_stay_there(residual: onnx.ModelProto, data: Dataset) -> None:
    network = prepare(residual, "m")
    zeros = {name: np.where(np.abs(value) < 0.1, 0, value).astype(np.float32) for name, value in network.constants.items() if name in ("w1", "w3")}
    sparse = network.edited(network.nodes, zeros)
    trained = make_robust(sparse, make_plan(sparse), data, replace(CONFIG, strength=1e-3)).network.constants
    for name, value in zeros.items():
        assert (trained[name][value == 0] == 0).all()
        assert (trained[name] != value).any()


def test_the_strongest_that_holds_is_kept(made: Callable[..., Robust]) -> None:
    done = made()
    held = [trial.strength for trial in done.trials if trial.held]
    assert done.strength == max(held, default=0.0)
    assert [trial.strength == 0 for trial in done.trials] == [True, *[False] * (len(done.trials) - 1)]
    assert len(done.trials) <= 5  # the one without, and a bisection of seven


@pytest.mark.parametrize("limit", range(-1, 7))
def test_bisection_finds_the_largest_that_holds(limit: int) -> None:
    strengths = [float(power) for power in range(1, 8)]

    def attempt(strength: float, phase: int) -> search._Tried:
        return search._Tried(strength, 1.0 if strength <= limit + 1 else 0.0, (0.0, 0.0), 0.0, {})

    tried = list(search._bisected(strengths, attempt, 0.5))
    assert max((one.strength for one in tried if one.score >= 0.5), default=0.0) == limit + 1
    assert len(tried) == 3


def test_a_strength_that_makes_training_diverge_does_not_hold(made: Callable[..., Robust], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_strengths", lambda loss, penalty: [1e30])
    done = made()
    assert [trial.accuracy is None for trial in done.trials] == [False, True]
    assert done.strength == 0


def test_an_operator_without_a_second_derivative_is_named(made: Callable[..., Robust], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: object, **named: object) -> None:
        raise RuntimeError("derivative for aten::grid_sampler is not implemented")

    monkeypatch.setattr(search, "train", fail)
    with pytest.raises(InputError, match=r"aten::grid_sampler is not implemented.*--robust-method dq"):
        made()


def test_the_penalty_acts_in_the_last_epochs_only(made: Callable[..., Robust], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "PENALIZED", 1.0)
    short, long = (made(replace(CONFIG, strength=1e-3, epochs=epochs)) for epochs in (1, 3))
    assert short.trials[0].penalty_before != long.trials[0].penalty_before  # two epochs without came before


def test_an_interrupted_search_goes_on_to_the_same_network(made: Callable[..., Robust], tmp_path: Path) -> None:
    whole = made(replace(CONFIG, strength=1e-3))
    kept = Checkpointing(tmp_path / "state")
    stopped = replace(CONFIG, strength=1e-3)
    with pytest.raises(KeyboardInterrupt):
        made(stopped, checkpointing=kept, progress=_Impatient(steps=9))
    with pytest.raises(UsageError, match="--resume"):
        made(stopped, checkpointing=kept)
    resumed = made(stopped, checkpointing=replace(kept, resume=True))
    assert all(np.array_equal(value, resumed.network.constants[name]) for name, value in whole.network.constants.items())


class _Impatient:
    """A person who presses Ctrl-C after some steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def stage(self, name: str, total: int | None = None) -> None: ...

    def note(self, message: str) -> None: ...

    def advance(self, steps: int = 1, **figures: float) -> None:
        self.left -= steps
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "wrong",
    [
        {"strength": 0.0},
        {"strength": -1.0},
        {"strength": float("inf")},
        {"epochs": 0.0},
        {"method": "none", "strength": 1.0},
        {"distill": 0.5},
        {"max_drop": 2.0},
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="--"):
        replace(CONFIG, **wrong)
