from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compresskit.data.dataset import Dataset, Split
from compresskit.errors import GuardError, InputError, UsageError
from compresskit.training import TrainConfig, evaluate, train
from compresskit.training.objectives import supervised

MakeNet = Callable[[], nn.Module]
Fingerprint = Callable[[nn.Module], str]

QUICK = TrainConfig(epochs=6, batch_size=16, lr=0.05, precision="fp32")


class Recorder:
    """Keeps what a run says of its progress."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int | None]] = []
        self.steps = 0
        self.figures: list[dict[str, float]] = []
        self.notes: list[str] = []

    def stage(self, name: str, total: int | None = None) -> None:
        self.stages.append((name, total))

    def advance(self, steps: int = 1, **figures: float) -> None:
        self.steps += steps
        self.figures.append(figures)

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "adamw", "lr": 0.01},
        {"schedule": "cosine", "warmup": 0.1, "clip": 1.0},
        {"schedule": "multistep", "label_smoothing": 0.1},
        {"schedule": "constant", "momentum": 0.0, "channels_last": False},
        {"precision": "bf16"},
    ],
    ids=str,
)
def test_classes_are_learned(images: Dataset, make_net: MakeNet, settings: dict[str, Any]) -> None:
    net = make_net()
    result = train(net, images, replace(QUICK, **settings))
    assert evaluate(net, images.validation, images.normalization).accuracy > 0.9
    assert result.history[-1].loss < result.history[0].loss
    assert not any(m.training for m in net.modules())
    assert all(p.is_contiguous() and p.dtype == torch.float32 and p.grad is None for p in net.parameters())


def test_quantities_are_learned(quantities: Dataset) -> None:
    net = nn.Linear(5, 2)
    result = train(net, quantities, replace(QUICK, epochs=20, lr=0.1, weight_decay=0.0))
    assert result.history[-1].validation.rmse < 0.05
    assert result.history[-1].validation.accuracy is None


def test_history_and_progress(images: Dataset, make_net: MakeNet) -> None:
    recorder, net = Recorder(), make_net()
    result = train(net, images, replace(QUICK, epochs=2.5), progress=recorder)
    assert result.steps == recorder.steps == 10
    assert recorder.stages == [("train", 10)]
    assert len(result.history) == 3
    assert result.history[-1].validation == evaluate(net, images.validation, images.normalization, batch_size=16)
    assert "accuracy" not in recorder.figures[1]
    assert recorder.figures[-1] == {"loss": result.history[-1].loss, "accuracy": result.history[1].validation.accuracy}
    assert result.seconds == sum(record.seconds for record in result.history) > 0


def test_without_a_validation_split_nothing_is_measured(images: Dataset, make_net: MakeNet) -> None:
    result = train(make_net(), replace(images, validation=None), replace(QUICK, epochs=0.1))
    assert result.steps == 1
    assert result.history[0].validation is None


def test_one_full_batch_step_is_the_update_of_torch(quantities: Dataset) -> None:
    net = nn.Linear(5, 2)
    twin = nn.Linear(5, 2)
    twin.load_state_dict(net.state_dict())
    train(net, quantities, replace(QUICK, epochs=3, batch_size=64, lr=0.1, schedule="constant", weight_decay=0.1, clip=0.5))
    optimizer = torch.optim.SGD([{"params": [twin.weight], "weight_decay": 0.1}, {"params": [twin.bias]}], lr=0.1, momentum=0.9, nesterov=True)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.mse_loss(twin(torch.from_numpy(quantities.train.x)), torch.from_numpy(quantities.train.y)).backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
        optimizer.step()
    torch.testing.assert_close(net.weight, twin.weight)
    torch.testing.assert_close(net.bias, twin.bias)


def test_a_seed_decides_everything_and_the_callers_generator_is_left_alone(images: Dataset, make_net: MakeNet, fingerprint: Fingerprint) -> None:
    config = replace(QUICK, epochs=1, augment="crop-flip")
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    prints = []
    for seed in (1, 1, 2):
        net = make_net()
        train(net, images, replace(config, seed=seed))
        prints.append(fingerprint(net))
    assert prints[0] == prints[1] != prints[2]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_a_mask_projected_after_each_step_holds(images: Dataset, make_net: MakeNet) -> None:
    net, steps = make_net(), []
    mask = torch.rand_like(net[6].weight) < 0.5

    @torch.no_grad()
    def project(step: int) -> None:
        steps.append(step)
        net[6].weight.mul_(mask)

    train(net, images, replace(QUICK, epochs=1), after_step=project)
    assert steps == [1, 2, 3, 4]
    assert net[6].weight[~mask].eq(0).all()
    assert net[6].weight[mask].ne(0).all()


def test_an_objective_of_ones_own(images: Dataset, make_net: MakeNet) -> None:
    def shrinking(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return supervised()(module, x, y) + module.get_submodule("1").weight.abs().sum()

    plain, shrunk = make_net(), make_net()
    train(plain, images, QUICK)
    train(shrunk, images, QUICK, objective=shrinking)
    assert shrunk[1].weight.abs().sum() < plain[1].weight.abs().sum() / 2


def test_only_the_parameters_given_are_trained_with_their_own_rate(images: Dataset, make_net: MakeNet) -> None:
    net = make_net()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    result = train(net, images, replace(QUICK, epochs=1), parameters=[{"params": net[6].parameters(), "lr": 0.5}, {"params": []}])
    moved = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"6.weight", "6.bias"}
    assert result.history[0].lr == pytest.approx(0.5 / 25e4)


def test_a_model_that_needs_contiguous_images_trains_all_the_same(images: Dataset) -> None:
    class Viewing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(256, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x).relu().view(len(x), -1))

    net = Viewing()
    result = train(net, images, replace(QUICK, lr=0.02))
    assert result.history[-1].validation.accuracy > 0.9


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(x.flatten(1)), x


def test_several_outputs_need_an_objective(images: Dataset) -> None:
    with pytest.raises(UsageError, match="give an objective"):
        train(TwoHeads(), images, QUICK)

    def first(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(module(x)[0], y)

    result = train(TwoHeads(), replace(images, validation=None), QUICK, objective=first)
    assert result.history[-1].loss < result.history[0].loss


def test_unfit_data_are_refused_and_the_model_is_left_alone(images: Dataset, make_net: MakeNet, fingerprint: Fingerprint) -> None:
    net = make_net()
    before = fingerprint(net)
    with pytest.raises(InputError, match="the labels run from 0 to 9, but the model has 3 outputs"):
        train(net, replace(images, train=Split(images.train.x, np.resize(np.arange(10), 56))), QUICK)
    with pytest.raises(InputError, match="no samples to train on"):
        train(net, replace(images, train=Split(images.train.x[:0], images.train.y[:0])), QUICK)
    assert fingerprint(net) == before


def test_nothing_to_train_is_refused(images: Dataset, make_net: MakeNet) -> None:
    with pytest.raises(UsageError, match="nothing to train"):
        train(make_net().requires_grad_(False), images, QUICK)
    with pytest.raises(UsageError, match="Flatten has no parameters"):
        train(nn.Flatten(), images, QUICK)


@pytest.mark.parametrize("place", ["loss", "gradient", "data", "parameter"])
def test_a_nan_stops_at_the_last_good_state(images: Dataset, make_net: MakeNet, fingerprint: Fingerprint, place: str) -> None:
    """Step 6 of 24 goes wrong; then the model, its norms' statistics included, is that of a run of five steps."""
    net, calls = make_net(), []

    def objective(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        calls.append(1)
        bad = len(calls) == 6
        if bad and place == "data":
            x.fill_(float("nan"))
        value = supervised()(module, x, y)
        if bad and place == "loss":
            return value * float("inf")
        if bad and place == "gradient":
            value.register_hook(lambda gradient: gradient * float("nan"))
        return value

    def after_step(step: int) -> None:
        states.append(fingerprint(net))
        if place == "parameter" and step == 6:
            net[0].weight.data[0, 0, 0, 0] = float("inf")

    states: list[str] = []
    expected = {"loss": "the loss became", "gradient": "the gradient became", "data": "its inputs hold NaN", "parameter": "a parameter became"}
    with pytest.raises(GuardError, match=f"stopped at step 6 of 24: {expected[place]}"):
        train(net, images, QUICK, objective=objective, after_step=after_step)
    assert fingerprint(net) == states[4]
    assert all(torch.isfinite(tensor).all() for tensor in net.state_dict().values())


def test_a_rate_far_too_high_stops_training(quantities: Dataset) -> None:
    net = nn.Linear(5, 2)
    with pytest.raises(GuardError, match=r"lower the learning rate \(here 1e\+06\)"):
        train(net, quantities, replace(QUICK, epochs=50, lr=1e6, schedule="constant"))
    assert net.weight.isfinite().all()


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 0},
        {"epochs": float("nan")},
        {"batch_size": 0},
        {"optimizer": "adam"},
        {"lr": -1.0},
        {"momentum": 1.0},
        {"weight_decay": -1.0},
        {"schedule": "linear"},
        {"milestones": (1.5,)},
        {"warmup": 1.0},
        {"label_smoothing": 1.0},
        {"augment": "mixup"},
        {"precision": "fp16"},
        {"clip": 0.0},
        {"checkpoint_minutes": -1.0},
        {"resume": True},
        {"seed": -1},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"^{next(iter(settings))} is "):
        TrainConfig(**settings)
