"""What cut channels carried is taken over by those that stay, as far as least squares allow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.pruning.compensation import compensate
from compresskit.pruning.cut import cut
from compresskit.pruning.groups import Prunable, find_groups

pytestmark = pytest.mark.usefixtures("one_thread")


def images(count: int = 4, channels: int = 3) -> list[tuple[Tensor, Tensor]]:
    rng = torch.Generator().manual_seed(1)
    return [(torch.randn(32, channels, 6, 6, generator=rng), torch.zeros(32)) for _ in range(count)]


def lifted(*layers: nn.Module) -> tuple[ModelGraph, Prunable]:
    torch.manual_seed(0)
    graph = graph_from_module(nn.Sequential(*layers), [TensorSpec("x", (None, 3, 6, 6))], source="test")
    return graph, find_groups(graph)


def keeping(prunable: Prunable, channels: list[int]) -> np.ndarray:
    """Only these channels of the first group stay."""
    keep = np.ones(prunable.coupling.classes, dtype=bool)
    keep[prunable.classes[0]] = np.isin(np.arange(len(prunable.classes[0])), channels)
    return keep


@torch.no_grad()
def error(graph: ModelGraph, smaller: ModelGraph, batches: list[tuple[Tensor, Tensor]]) -> float:
    return sum(float((graph.module(x) - smaller.module(x)).square().mean()) for x, _ in batches)


def test_a_channel_that_repeats_another_is_not_missed() -> None:
    first = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        first.weight[3], first.bias[3] = first.weight[0], first.bias[0]  # type: ignore[index]
    graph, prunable = lifted(first, nn.ReLU(), nn.Conv2d(4, 5, 3))
    keep = keeping(prunable, [0, 1, 2])
    smaller = cut(graph, prunable.coupling, keep)
    batches = images(16)
    plain = error(graph, smaller, batches)
    compensate(graph, prunable.coupling, keep, smaller, batches)
    assert error(graph, smaller, batches) < 1e-3 * plain


@pytest.mark.parametrize("layers", [[nn.Conv2d(8, 5, 3, stride=2, padding=1)], [nn.Flatten(), nn.Linear(128, 5)]], ids=["conv", "flatten-linear"])
def test_refitting_never_does_worse_on_its_own_data(layers: list[nn.Module]) -> None:
    graph, prunable = lifted(nn.Conv2d(3, 8, 3), nn.ReLU(), *layers)
    keep = keeping(prunable, [0, 2, 3, 6])
    smaller = cut(graph, prunable.coupling, keep)
    batches = images(16)
    plain = error(graph, smaller, batches)
    compensate(graph, prunable.coupling, keep, smaller, batches)
    assert error(graph, smaller, batches) < 0.9 * plain


def test_a_linear_layer_gets_the_least_squares_solution() -> None:
    graph, prunable = lifted(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2))
    keep = keeping(prunable, [1, 2, 4])
    smaller = cut(graph, prunable.coupling, keep)
    batches = images(8)
    compensate(graph, prunable.coupling, keep, smaller, batches)
    with torch.no_grad():
        hidden = torch.cat([torch.tanh(graph.module.get_submodule("2")(x.mean((2, 3)))) for x, _ in batches]).double()
        wanted = graph.module.get_submodule("4").double()(hidden)
    design = torch.cat([hidden[:, [1, 2, 4]], torch.ones(len(hidden), 1)], 1)
    solution = torch.linalg.lstsq(design, wanted).solution
    last = smaller.module.get_submodule("4")
    assert torch.allclose(last.weight.double(), solution[:3].T, atol=2e-2)
    assert torch.allclose(last.bias.double(), solution[3], atol=2e-2)


def test_only_layers_that_lost_inputs_change_and_the_original_does_not() -> None:
    graph, prunable = lifted(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3))
    before = {name: tensor.clone() for name, tensor in graph.module.state_dict().items()}
    keep = keeping(prunable, [0, 1])
    smaller = cut(graph, prunable.coupling, keep)
    compensate(graph, prunable.coupling, keep, smaller, images())
    assert torch.equal(smaller.module.get_parameter("0.weight"), before["0.weight"][:2])
    assert not torch.equal(smaller.module.get_parameter("2.weight"), before["2.weight"][:, :2])
    assert all(torch.equal(tensor, before[name]) for name, tensor in graph.module.state_dict().items())


def test_inputs_that_never_vary_leave_finite_weights() -> None:
    dead = nn.Conv2d(3, 4, 3)
    nn.init.zeros_(dead.weight)
    nn.init.constant_(dead.bias, -1.0)  # type: ignore[arg-type]
    graph, prunable = lifted(dead, nn.ReLU(), nn.Conv2d(4, 5, 3))
    keep = keeping(prunable, [0, 1])
    smaller = cut(graph, prunable.coupling, keep)
    compensate(graph, prunable.coupling, keep, smaller, images())
    assert smaller.module.get_parameter("2.weight").isfinite().all()
