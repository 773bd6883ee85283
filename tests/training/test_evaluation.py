from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from compresskit.data.batches import batches
from compresskit.data.dataset import Split
from compresskit.errors import InputError
from compresskit.models.graph import Normalization
from compresskit.training import evaluate, recalibrate_batchnorm
from compresskit.training.evaluation import wilson

AS_IS = Normalization((0.0,), (1.0,))


def _split(count: int, seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    return Split(rng.normal(size=(count, 4)).astype(np.float32), rng.integers(0, 3, count))


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_classes_are_counted_over_all_batches(batch_size: int) -> None:
    split, net = _split(23), nn.Linear(4, 3)
    found = evaluate(net, split, AS_IS, batch_size=batch_size)
    logits = net(torch.from_numpy(split.x)).detach()
    right = (logits.argmax(1).numpy() == split.y).sum()
    assert (found.count, found.accuracy, found.rmse) == (23, right / 23, None)
    assert found.loss == pytest.approx(nn.functional.cross_entropy(logits, torch.from_numpy(split.y)).item(), rel=1e-5)
    assert found.interval == wilson(right, 23)


@pytest.mark.parametrize("batch_size", [3, 100])
def test_pixels_have_a_mean_intersection_over_union(batch_size: int) -> None:
    rng = np.random.default_rng(0)
    split = Split(rng.normal(size=(7, 2, 4, 5)).astype(np.float32), rng.integers(0, 3, (7, 4, 5)))
    net = nn.Conv2d(2, 5, 1)
    net.bias.data[4] = -100.0  # a class that is neither there nor chosen counts for nothing
    found = evaluate(net, split, AS_IS, batch_size=batch_size)
    chosen = net(torch.from_numpy(split.x)).argmax(1).numpy()
    masks = [(chosen == label, split.y == label) for label in range(4)]
    assert found.iou == pytest.approx(np.mean([(one & two).sum() / (one | two).sum() for one, two in masks]))
    assert (found.count, found.accuracy) == (140, (chosen == split.y).mean())
    assert evaluate(nn.Linear(4, 3), _split(9), AS_IS).iou is None


@pytest.mark.parametrize("batch_size", [5, 100])
def test_numbers_have_a_root_mean_squared_error(batch_size: int) -> None:
    x, net = _split(23).x, nn.Linear(4, 2)
    y = np.random.default_rng(1).normal(size=(23, 2)).astype(np.float32)
    found = evaluate(net, Split(x, y), AS_IS, batch_size=batch_size)
    expected = np.sqrt(((net(torch.from_numpy(x)).detach().numpy() - y) ** 2).mean())
    assert found.rmse == pytest.approx(expected, rel=1e-5)
    assert (found.accuracy, found.interval) == (None, None)


def test_evaluation_leaves_the_modes_of_every_part_alone() -> None:
    net = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3)).train()
    net[0].eval()
    before = net[0].running_mean.clone()
    assert evaluate(net, _split(9), AS_IS) == evaluate(net, _split(9), AS_IS)
    assert [m.training for m in net] == [False, True, True]
    assert torch.equal(net[0].running_mean, before)


def test_nothing_to_evaluate_on_is_refused() -> None:
    with pytest.raises(InputError, match="no samples"):
        evaluate(nn.Linear(4, 3), _split(0), AS_IS)


def test_labels_beyond_the_outputs_are_refused() -> None:
    with pytest.raises(InputError, match="the model has 2 outputs"):
        evaluate(nn.Linear(4, 2), _split(30), AS_IS)


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_the_ends_of_the_interval_are_where_the_score_test_just_rejects(count: int, part: float) -> None:
    right = round(part * count)
    for end in wilson(right, count):
        assert 0 <= end <= 1
        deviation = abs(right / count - end)
        assert deviation == pytest.approx(1.959964 * math.sqrt(max(end * (1 - end), 0) / count), rel=1e-5, abs=1e-9)


def test_recalibrated_norms_hold_the_average_of_the_batches() -> None:
    net = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), nn.BatchNorm1d(5), nn.BatchNorm1d(5, track_running_stats=False)).train()
    net[2].running_mean.fill_(7.0)
    split = _split(24)
    assert recalibrate_batchnorm(net, batches(split, AS_IS, 8)) == 1
    parts = net[0](torch.from_numpy(split.x)).detach().reshape(3, 8, 5)
    torch.testing.assert_close(net[2].running_mean, parts.mean((0, 1)))
    torch.testing.assert_close(net[2].running_var, parts.var(1, unbiased=True).mean(0))
    assert net[2].momentum == 0.1
    assert all(m.training for m in net)


def test_without_batches_the_statistics_stay() -> None:
    net = nn.BatchNorm1d(4)
    net.running_mean.fill_(7.0)
    with pytest.raises(InputError, match="at least one batch"):
        recalibrate_batchnorm(net, [])
    assert net.running_mean.eq(7.0).all()
    assert recalibrate_batchnorm(nn.Linear(4, 3), []) == 0
