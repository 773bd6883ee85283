"""A run that was ended anywhere, in any way, and continued, ends like one that was not."""

from __future__ import annotations

import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compresskit.data.dataset import Dataset, Split
from compresskit.errors import GuardError, InputError, UsageError
from compresskit.training import TrainConfig, TrainResult, checkpoints, train
from compresskit.training.objectives import supervised

MakeNet = Callable[[], nn.Module]
Fingerprint = Callable[[nn.Module], str]


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    """12 steps, 4 an epoch, with every source of randomness, in the precision that this machine likes."""
    return TrainConfig(epochs=3, batch_size=16, augment="crop-flip", checkpoint=tmp_path / "run.checkpoint", checkpoint_minutes=60, seed=3)


class Killed(BaseException):
    """What a signal handler raises."""


def _killed_in(step: int, place: str) -> dict[str, Any]:
    """Arguments of `train` that raise in update number `step`: before it has begun, half through it, or when it is made."""
    calls: list[int] = []

    def objective(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        calls.append(1)
        here = len(calls) == step
        if here and place == "before":
            raise Killed
        value = supervised()(module, x, y)
        if here and place == "half":
            # The norms have new statistics now, and a part of the weights is updated.
            next(module.parameters()).data.add_(1.0)
            raise Killed
        return value

    def after_step(made: int) -> None:
        if place == "after" and made == step:
            raise Killed

    return {"objective": objective, "after_step": after_step}


def _figures(result: TrainResult) -> list[Any]:
    return [replace(record, seconds=0.0) for record in result.history]


@pytest.mark.parametrize(("step", "place"), [(1, "half"), (3, "before"), (4, "after"), (5, "half"), (10, "half"), (12, "after")])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_run_ended_by_a_signal_continues_to_the_same_state(
    images: Dataset, make_net: MakeNet, fingerprint: Fingerprint, config: TrainConfig, optimizer: str, step: int, place: str
) -> None:
    config = replace(config, optimizer=optimizer)
    whole, parts = make_net(), make_net()
    uninterrupted = train(whole, images, replace(config, checkpoint=None), objective=supervised())
    with pytest.raises(Killed):
        train(parts, images, config, **_killed_in(step, place))
    fresh = make_net()
    resumed = train(fresh, images, replace(config, resume=True), objective=supervised())
    assert fingerprint(fresh) == fingerprint(whole)
    assert _figures(resumed) == _figures(uninterrupted)
    assert resumed.steps == 12


def test_a_run_ended_while_validating_continues_to_the_same_history(
    images: Dataset, make_net: MakeNet, fingerprint: Fingerprint, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = make_net(), make_net()
    uninterrupted = train(whole, images, replace(config, checkpoint=None))

    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("compresskit.training.run.evaluate", killed)
        with pytest.raises(Killed):
            train(parts, images, config)
    assert _figures(train(parts, images, replace(config, resume=True))) == _figures(uninterrupted)
    assert fingerprint(parts) == fingerprint(whole)


SCRIPT = """
import os, signal, sys
from pathlib import Path
import numpy as np, torch
from torch import nn
from compresskit.data.dataset import Dataset, Split
from compresskit.models.graph import Normalization
from compresskit.training import TrainConfig, train

torch.set_num_threads(1)
x, y = np.random.default_rng(0).normal(size=(48, 6)).astype(np.float32), np.arange(48) % 3
data = Dataset(Split(x, y), Split(x, y), None, Normalization((0.0,), (1.0,)), "made up", 3)
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 3))
resume, deadly = sys.argv[2] == "resume", int(sys.argv[3])
def after_step(step):
    if step == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
train(net, data, TrainConfig(epochs=3, batch_size=16, checkpoint=Path(sys.argv[1]), checkpoint_minutes=0, resume=resume), after_step=after_step)
torch.save(net.state_dict(), sys.argv[1] + ".weights")
"""


def test_a_killed_process_continues_to_the_same_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL in update 5 of 9, and the newest checkpoint is damaged by it."""
    script, whole, parts = tmp_path / "script.py", tmp_path / "whole", tmp_path / "parts"
    script.write_text(SCRIPT)

    def run(*arguments: str | Path) -> None:
        monkeypatch.setattr("sys.argv", [str(script), *map(str, arguments)])
        with torch.random.fork_rng(devices=[]):
            runpy.run_path(str(script))

    run(whole, "start", "0")
    assert subprocess.run([sys.executable, script, parts, "start", "5"]).returncode == -signal.SIGKILL
    parts.write_bytes(parts.read_bytes()[:-100])
    run(parts, "resume", "0")
    expected, found = (torch.load(f"{path}.weights", weights_only=True) for path in (whole, parts))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_a_run_that_is_over_is_not_run_again(images: Dataset, make_net: MakeNet, fingerprint: Fingerprint, config: TrainConfig) -> None:
    first, second = make_net(), make_net()
    result = train(first, images, config)

    def fail(*_: Any) -> Tensor:
        raise AssertionError("a step was made")

    assert train(second, images, replace(config, resume=True), objective=fail) == result
    assert fingerprint(first) == fingerprint(second)


def test_resuming_without_a_checkpoint_starts(images: Dataset, make_net: MakeNet, config: TrainConfig) -> None:
    assert train(make_net(), images, replace(config, resume=True)).steps == 12


def test_a_checkpoint_is_not_overwritten_by_a_new_run(images: Dataset, make_net: MakeNet, config: TrainConfig) -> None:
    train(make_net(), images, replace(config, epochs=0.5))
    before = config.checkpoint.read_bytes()
    with pytest.raises(UsageError, match=r"exists: continue from it with --resume, or remove it"):
        train(make_net(), images, config)
    assert config.checkpoint.read_bytes() == before


def test_a_checkpoint_of_another_run_is_refused(images: Dataset, make_net: MakeNet, fingerprint: Fingerprint, config: TrainConfig) -> None:
    train(make_net(), images, replace(config, epochs=0.5))
    net, resuming = make_net(), replace(config, epochs=0.5, resume=True)
    before, saved = fingerprint(net), config.checkpoint.read_bytes()
    with pytest.raises(UsageError, match="different in epochs, lr: repeat"):
        train(net, images, replace(resuming, lr=0.3, epochs=1))
    with pytest.raises(UsageError, match="different in data"):
        train(net, replace(images, train=Split(images.train.x, np.zeros_like(images.train.y))), resuming)
    with pytest.raises(UsageError, match="different in model, parameters"):
        train(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), images, resuming)
    assert fingerprint(net) == before
    assert config.checkpoint.read_bytes() == saved


def test_two_damaged_checkpoints_are_refused(images: Dataset, make_net: MakeNet, config: TrainConfig) -> None:
    config.checkpoint.write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="not a whole training checkpoint"):
        train(make_net(), images, replace(config, resume=True))


def test_the_run_goes_on_with_the_threads_it_had(images: Dataset, make_net: MakeNet, config: TrainConfig) -> None:
    with pytest.raises(Killed):
        train(make_net(), images, config, **_killed_in(3, "before"))
    torch.set_num_threads(2)
    seen: set[int] = set()
    train(make_net(), images, replace(config, resume=True), after_step=lambda _: seen.add(torch.get_num_threads()))
    assert seen == {1}
    assert torch.get_num_threads() == 2


def test_checkpoints_are_written_by_the_clock(images: Dataset, make_net: MakeNet, config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step takes a minute here."""
    now, saved = [0.0], []

    def after_step(step: int) -> None:
        now[0] += 60.0

    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr(checkpoints, "save", lambda path, payload: saved.append(payload["state"]["step"]))
    result = train(make_net(), images, replace(config, checkpoint_minutes=5), after_step=after_step)
    assert saved == [5, 10, 12]
    assert [record.seconds for record in result.history] == [240.0] * 3


def test_a_diverged_run_keeps_its_last_good_checkpoint(images: Dataset, make_net: MakeNet, config: TrainConfig) -> None:
    def after_step(step: int) -> None:
        if step == 6:
            net.get_parameter("0.weight").data.fill_(float("nan"))

    net = make_net()
    with pytest.raises(GuardError, match="step 6 of 12"):
        train(net, images, config, after_step=after_step)
    state = checkpoints.load(config.checkpoint)["state"]
    assert state["step"] == 5
    assert all(torch.equal(state["module"][name], tensor) for name, tensor in net.state_dict().items())


def test_a_full_disk_does_not_hide_what_ended_the_run(
    images: Dataset, make_net: MakeNet, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Killed):
        train(make_net(), images, config, **_killed_in(3, "before"))
    assert list(config.checkpoint.parent.iterdir()) == []
