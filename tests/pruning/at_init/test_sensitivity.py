"""SNIP and 3SP against weights times gradients, summed in loops, and against what a masked channel does to the loss."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx

from compresskit.models.graph import ModelGraph
from compresskit.pruning.at_init import SALIENCIES, ChannelMasks, Task
from compresskit.pruning.at_init.base import Batch
from compresskit.pruning.at_init.network import mask_gradients
from compresskit.training.evaluation import evaluating

MakeTask = Callable[..., Task]


def trained(graph: ModelGraph) -> fx.GraphModule:
    return copy.deepcopy(graph.module).train()


def products(graph: ModelGraph, batch: Batch) -> dict[str, Tensor]:
    """w * dL/dw by the module's own backward pass."""
    module = trained(graph)
    F.cross_entropy(module(batch[0]), batch[1]).backward()
    return {name: (parameter * parameter.grad).detach() for name, parameter in module.named_parameters()}


def test_snip_is_weight_times_gradient(smooth_net: ModelGraph, task: MakeTask, data: list[Batch]) -> None:
    asked = task(smooth_net, "weights")
    wanted = {name: product.abs() for name, product in products(asked.graph, data[0]).items() if name in asked.masks.ones()}
    whole = sum(float(product.sum()) for product in wanted.values())
    for name, score in SALIENCIES["snip"](asked).values.items():
        torch.testing.assert_close(score, wanted[name] / whole)


def test_3sp_sums_weight_times_gradient_over_what_reads_a_channel(smooth_net: ModelGraph, task: MakeTask, data: list[Batch]) -> None:
    asked = task(smooth_net, "channels")
    assert isinstance(asked.masks, ChannelMasks)
    found = products(asked.graph, data[0])
    wanted = {}
    for group in asked.masks.prunable.groups:
        sums = torch.zeros(group.size, dtype=torch.float64)
        for piece in group.slices:
            for position, channel in zip(piece.positions, piece.channels, strict=True):
                if piece.role == "in":
                    sums[channel] += found[piece.parameter].select(piece.dim, int(position)).sum()
        wanted[group.name] = sums.abs()
    whole = sum(float(sums.sum()) for sums in wanted.values())
    for name, score in SALIENCIES["3sp"](asked).values.items():
        torch.testing.assert_close(score, wanted[name] / whole)


@pytest.mark.parametrize("layer", ["stem", "inner"])
def test_a_channel_gradient_is_the_slope_of_the_loss_in_its_activation(layer: str, smooth_net: ModelGraph, task: MakeTask, data: list[Batch]) -> None:
    """A factor on the sum of two branches, or on what the inner layer's activation puts out: no weight is touched."""
    asked, (x, y) = task(smooth_net, "channels"), data[0]
    module = trained(asked.graph)
    activations = [node for node in module.graph.nodes if "silu" in str(node.target)]
    chosen = {"stem": (0, 2), "inner": (1,)}[layer]  # both where the stem's channels are read: into the block, and past it

    def loss(factors: Tensor) -> Tensor:
        return F.cross_entropy(_Scaled(module, [activations[index] for index in chosen], factors).run(x), y)

    size = len(asked.masks.ones()[layer])
    steps = 1e-5 * torch.eye(size, dtype=torch.float64)
    slopes = torch.stack([(loss(1 + step) - loss(1 - step)) / 2e-5 for step in steps])
    torch.testing.assert_close(mask_gradients(asked, asked.masks.ones(), data[0])[layer], slopes.detach(), rtol=1e-6, atol=1e-9)


class _Scaled(fx.Interpreter):
    """Runs a graph with a factor a channel on what some of its nodes hand to layers; what is added up stays as it is."""

    def __init__(self, module: fx.GraphModule, nodes: list[fx.Node], factors: Tensor) -> None:
        super().__init__(module)
        self.nodes, self.factors = nodes, factors

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> tuple[tuple[object, ...], dict[str, object]]:
        args, kwargs = super().fetch_args_kwargs_from_env(n)
        reads = n.op == "call_module" or "flatten" in str(n.target) or "view" in str(n.target)
        if reads and n.args[0] in self.nodes:
            args = (args[0] * self.factors[:, None, None], *args[1:])  # type: ignore[operator]
        return args, kwargs


def test_evaluation_mode_comes_back(smooth_net: ModelGraph, task: MakeTask) -> None:
    asked = task(smooth_net, "channels")
    asked.graph.module.get_submodule("stem_norm").train()
    try:
        SALIENCIES["3sp"](asked)
        assert asked.graph.module.get_submodule("stem_norm").training
        assert not asked.graph.module.get_submodule("outer_norm").training
    finally:
        asked.graph.module.eval()
    with evaluating(asked.graph.module):
        assert not asked.graph.module.training
