"""Small networks in float64, which leave finite differences their digits, and data for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.pruning.at_init import ChannelMasks, Task, WeightMasks
from compresskit.pruning.at_init.base import Batch
from compresskit.pruning.footprint import footprint
from compresskit.pruning.groups import find_groups

BATCHES = 5


class Residual(nn.Module):
    """A stem, a block that is added to it, and a head that reads the sum; (N, 2, 5, 5) to 3 classes."""

    def __init__(self, activation: Callable[[Tensor], Tensor], *, norms: bool = True) -> None:
        super().__init__()
        self.activation = activation
        self.stem, self.stem_norm = nn.Conv2d(2, 4, 3, bias=not norms), nn.BatchNorm2d(4) if norms else nn.Identity()
        self.inner, self.inner_norm = nn.Conv2d(4, 3, 3, padding=1, bias=not norms), nn.BatchNorm2d(3) if norms else nn.Identity()
        self.outer, self.outer_norm = nn.Conv2d(3, 4, 1, bias=not norms), nn.BatchNorm2d(4) if norms else nn.Identity()
        self.head = nn.Linear(4 * 9, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.stem_norm(self.stem(x)))
        z = self.outer_norm(self.outer(self.activation(self.inner_norm(self.inner(y)))))
        return self.head(self.activation(y + z).flatten(1))


def _lifted(net: nn.Module, shape: tuple[int | None, ...]) -> ModelGraph:
    """`net` in float64, with the same weights in every run and none of them zero."""
    rng = torch.Generator().manual_seed(0)
    net = net.double()
    for parameter in net.parameters():
        parameter.data.normal_(0.1, 0.5, generator=rng)
    return graph_from_module(net, [TensorSpec("x", shape, torch.float64)], source="test")


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None: ...


@pytest.fixture(scope="session")
def lifted() -> Callable[[nn.Module, tuple[int | None, ...]], ModelGraph]:
    return _lifted


@pytest.fixture(scope="session")
def smooth_net() -> ModelGraph:
    """A residual network without kinks."""
    return _lifted(Residual(F.silu), (None, 2, 5, 5))


@pytest.fixture(scope="session")
def plain_net() -> ModelGraph:
    """A residual network of convolutions, biases and ReLU only."""
    return _lifted(Residual(F.relu, norms=False), (None, 2, 5, 5))


@pytest.fixture(scope="session")
def data() -> list[Batch]:
    rng = torch.Generator().manual_seed(1)
    return [
        (torch.randn(6, 2, 5, 5, generator=rng, dtype=torch.float64), torch.randint(0, 3, (6,), generator=rng, dtype=torch.int64))
        for _ in range(BATCHES)
    ]


@pytest.fixture(scope="session")
def task(data: list[Batch]) -> Callable[..., Task]:
    """`task(graph, "weights" or "channels")`, to keep half, with the data."""

    def make(graph: ModelGraph, granularity: str, kept: float = 0.5) -> Task:
        if granularity == "weights":
            return Task(graph, WeightMasks(graph.module), kept, data, F.cross_entropy)
        prunable = find_groups(graph)
        masks = ChannelMasks(prunable, footprint(prunable.graph, prunable.coupling, "params"))
        return Task(prunable.graph, masks, kept, data, F.cross_entropy)

    return make
