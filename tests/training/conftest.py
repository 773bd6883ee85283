from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from compresskit.data.dataset import Split
from compresskit.models.graph import Normalization


@dataclass(frozen=True)
class Data:
    train: Split
    validation: Split | None
    normalization: Normalization = Normalization((0.0,), (1.0,))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def images() -> Data:
    """Three classes of 8x8 images, each a bright column somewhere, in noise."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 88)
    x = rng.normal(size=(88, 1, 8, 8)).astype(np.float32)
    x[np.arange(88), 0, :, 2 * y + 1] += 2.0
    return Data(Split(x[:56], y[:56]), Split(x[56:], y[56:]))


@pytest.fixture
def quantities() -> Data:
    """Two numbers to predict, linear in five."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 5)).astype(np.float32)
    y = x @ rng.normal(size=(5, 2)).astype(np.float32)
    return Data(Split(x[:64], y[:64]), Split(x[64:], y[64:]))


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
