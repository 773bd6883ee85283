"""A small network, small data, and a metanetwork for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from compresskit.data.dataset import Dataset, Split
from compresskit.metaprune.network import Metanetwork, MetanetworkConfig
from compresskit.models.graph import ModelGraph, Normalization, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.load import load_model

SAMPLE = Path(__file__).parents[2] / "sample_data"


@pytest.fixture
def metanetwork() -> Metanetwork:
    """The same small one at each call, untrained: what it changes is noise."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Metanetwork(MetanetworkConfig(layers=2, width=8))


@pytest.fixture(scope="session")
def plain_net() -> ModelGraph:
    """Two convolutions of random weights, with norms, for digits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3, stride=2), nn.BatchNorm2d(12), nn.ReLU()]
        net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10))
    return graph_from_module(net, [TensorSpec("x", (None, 1, 8, 8))], source="plain")


@pytest.fixture(scope="session")
def digits_net() -> ModelGraph:
    """A trained residual network: (N, 1, 8, 8) to 10 classes."""
    return load_model(SAMPLE / "digits_resnet.pt")


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """300 digits to train on, and 100 of each other kind."""
    with np.load(SAMPLE / "digits.npz") as arrays:
        x, y = arrays["x_train"].reshape(-1, 1, 8, 8), arrays["y_train"].astype(np.int64)
    train, validation, test = (Split(x[part], y[part]) for part in (slice(300), slice(300, 400), slice(400, 500)))
    return Dataset(train, validation, test, Normalization((0.3,), (0.4,)), "made up", 10)
