"""Saliencies on what the zoo is made of: groups of channels, gates, concatenations, shuffles, and a class for each pixel.

One small network a pattern; all networks with all saliencies are the business of `tests/benchmarks/zoo_saliencies.py`.
"""

from __future__ import annotations

import pytest
import torch

from compresskit.models.graph import TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.zoo import build
from compresskit.pruning.at_init import SALIENCIES, ChannelMasks, Task
from compresskit.pruning.cut import cut
from compresskit.pruning.footprint import Footprint, footprint
from compresskit.pruning.groups import Prunable, find_groups
from compresskit.pruning.target import plan
from compresskit.training.objectives import loss

CLASSES, SIZE = 3, 16
QUICK = {"random": {}, "magnitude": {}, "3sp": {}, "grasp": {}, "synflow": {"rounds": 2}, "force": {"rounds": 2}, "prospr": {"steps": 1, "lr": 1e-3}}


@pytest.fixture(scope="module", params=["regnetx_200mf", "senet18", "shufflenet_v2_x1_0", "unet"])
def network(request: pytest.FixtureRequest) -> tuple[Prunable, Footprint]:
    torch.manual_seed(0)
    module = build(request.param, classes=CLASSES, width=0.125)
    prunable = find_groups(graph_from_module(module, [TensorSpec("x", (None, 3, SIZE, SIZE))], source=request.param))
    return prunable, footprint(prunable.graph, prunable.coupling, "flops")


@pytest.mark.parametrize("method", QUICK)
def test_half_is_cut_and_what_is_left_computes_and_learns(method: str, network: tuple[Prunable, Footprint]) -> None:
    prunable, cost = network
    maps = len(prunable.graph.outputs[0].shape) == 4
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(6, 3, SIZE, SIZE, generator=rng)
    y = torch.randint(0, CLASSES, (6, SIZE, SIZE) if maps else (6,), generator=rng)
    task = Task(prunable.graph, ChannelMasks(prunable, cost), 0.5, [(x, y)] * 2, loss)
    scores = SALIENCIES[method](task, **QUICK[method]).values
    made = plan(prunable, list(scores.values()), cost, 0.5 * cost.whole)
    assert made.reached == pytest.approx(0.5 * cost.whole, rel=0.05)
    smaller = cut(prunable.graph, prunable.coupling, made.keep).module.train()
    loss(smaller(x), y).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in smaller.parameters())
