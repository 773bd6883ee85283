"""The sample network and its digits, and a small network for numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compresskit.data.dataset import Dataset, Split
from compresskit.models.graph import ModelGraph, Normalization, TensorSpec
from compresskit.models.latency_measure import blank_table, measure_table
from compresskit.models.latency_probe import Probe
from compresskit.models.latency_table import Table as LatencyTable
from compresskit.models.lift import graph_from_module
from compresskit.models.load import load_model

SAMPLE = Path(__file__).parents[2] / "sample_data"


def _graph(net: nn.Module, shape: tuple[int | None, ...], source: str) -> ModelGraph:
    """`net` with the same weights in every run."""
    rng = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(0, parameter[0].numel() ** -0.5, generator=rng)
    return graph_from_module(net, [TensorSpec("x", shape)], source=source)


class _Around(nn.Module):
    """A function between a layer of 12 outputs and a layer that reads what it gives."""

    def __init__(self, function: Callable[[Tensor], Tensor], width: int) -> None:
        super().__init__()
        self.function = function
        self.first, self.last = nn.Linear(4, 12), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)))


def _around(function: Callable[[Tensor], Tensor], batch: int | None = None) -> ModelGraph:
    width = function(torch.zeros(batch or 2, 12)).shape[-1]
    return graph_from_module(_Around(function, width), [TensorSpec("x", (batch, 4))], source="test", free_batch=batch is None)


@pytest.fixture(scope="session")
def around() -> Callable[..., ModelGraph]:
    """Lifts a function with a layer `first` of 12 outputs before it and a layer `last` behind it; `batch`: one that it bakes in."""
    return _around


@pytest.fixture(scope="session")
def digits_net() -> ModelGraph:
    """A trained residual network with 763,520 MACs: (N, 1, 8, 8) to 10 classes."""
    return load_model(SAMPLE / "digits_resnet.pt")


def _bytes_as_time(probes: Sequence[Probe], threads: int, seconds: float) -> np.ndarray:
    """A machine on which a model takes a microsecond for each of its bytes."""
    return np.array([len(probe.model) / 1000 for probe in probes])


@pytest.fixture(scope="session")
def table_of() -> Callable[[ModelGraph], LatencyTable]:
    """Makes up the latency table that this machine would have for a graph and its factors, if time were bytes."""
    return lambda graph: measure_table(graph, blank_table(), factors=True, timer=_bytes_as_time)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """300 digits to train on, and 100 of each other kind."""
    with np.load(SAMPLE / "digits.npz") as arrays:
        x, y = arrays["x_train"].reshape(-1, 1, 8, 8), arrays["y_train"].astype(np.int64)
    train, validation, test = (Split(x[part], y[part]) for part in (slice(300), slice(300, 400), slice(400, 500)))
    return Dataset(train, validation, test, Normalization((0.3,), (0.4,)), "made up", 10)


@pytest.fixture(scope="session")
def small_net() -> ModelGraph:
    """Two convolutions of random weights, with norms, for digits: what takes little time."""
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 24, 3, stride=2), nn.BatchNorm2d(24), nn.ReLU()]
    return _graph(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10)), (None, 1, 8, 8), "small")


@pytest.fixture(scope="session")
def line_net() -> ModelGraph:
    """A perceptron from four numbers to one."""
    return _graph(nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1)), (None, 4), "line")


@pytest.fixture(scope="session")
def line() -> Dataset:
    """One number, linear in four."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)).astype(np.float32)
    y = x @ np.array([1, -2, 0.5, 3], np.float32)
    train, validation, test = (Split(x[part], y[part]) for part in (slice(100), slice(100, 150), slice(150, 200)))
    return Dataset(train, validation, test, Normalization((0.0,), (1.0,)), "made up", None)
