from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from compresskit.data.dataset import Dataset, Split
from compresskit.models.graph import Normalization


def _dataset(x: np.ndarray, y: np.ndarray, count: int) -> Dataset:
    """The first `count` samples to train on, the others to validate."""
    classes = None if y.dtype == np.float32 else int(y.max()) + 1
    return Dataset(Split(x[:count], y[:count]), Split(x[count:], y[count:]), None, Normalization((0.0,), (1.0,)), "made up", classes)


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None: ...


@pytest.fixture
def images() -> Dataset:
    """Three classes of 8x8 images, each a bright column somewhere, in noise."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 88)
    x = rng.normal(size=(88, 1, 8, 8)).astype(np.float32)
    x[np.arange(88), 0, :, 2 * y + 1] += 2.0
    return _dataset(x, y, 56)


@pytest.fixture
def quantities() -> Dataset:
    """Two numbers to predict, linear in five."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 5)).astype(np.float32)
    y = x @ rng.normal(size=(5, 2)).astype(np.float32)
    return _dataset(x, y, 64)


@pytest.fixture
def make_net() -> Callable[[], nn.Module]:
    """The same small network at each call: convolution, batch norm, dropout, linear."""

    def make() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return nn.Sequential(
                nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.2), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(96, 3)
            )

    return make


@pytest.fixture
def fingerprint() -> Callable[[nn.Module], str]:
    """A hash of every bit of a model's state."""

    def hashed(module: nn.Module) -> str:
        digest = hashlib.sha256()
        for name, tensor in module.state_dict().items():
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    return hashed
