"""Layers as two: the same function at full rank, the best one at any other, and the cost that was counted before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from compresskit.errors import InputError
from compresskit.models.checkpoint import save_checkpoint
from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.load import load_model
from compresskit.models.onnx_out import export_onnx
from compresskit.models.parity import check_parity
from compresskit.pruning.blocks import open_blocks
from compresskit.pruning.compensation import RIDGE, gather
from compresskit.pruning.config import Quantity
from compresskit.pruning.cut import cut
from compresskit.pruning.factors import decompose, factorize
from compresskit.pruning.footprint import footprint
from compresskit.pruning.lowrank import paying

pytestmark = pytest.mark.usefixtures("one_thread")
FIGURES: dict[Quantity, str] = {"flops": "macs", "params": "params", "size": "bytes"}


def _lifted(layer: nn.Module, *shape: int) -> ModelGraph:
    return graph_from_module(nn.Sequential(layer), [TensorSpec("x", (None, *shape))], source="layer")


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """A convolution over one, two or three directions, and the shape of a sample for it."""
    directions = draw(st.integers(1, 3))
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[directions - 1]
    into, out = draw(st.integers(1, 5)), draw(st.integers(2, 6))
    settings: dict[str, Any] = {
        "kernel_size": draw(st.integers(1, 3)),
        "stride": draw(st.integers(1, 2)),
        "padding": draw(st.integers(0, 2)),
        "dilation": draw(st.integers(1, 2)),
        "bias": draw(st.booleans()),
        "padding_mode": draw(st.sampled_from(["zeros", "reflect", "replicate"])),
    }
    torch.manual_seed(draw(st.integers(0, 1000)))
    return kind(into, out, **settings), (into, *[5] * directions)


@settings(max_examples=20)
@given(convolutions())
def test_a_convolution_of_full_rank_computes_the_same(drawn: tuple[nn.Module, tuple[int, ...]]) -> None:
    layer, shape = drawn
    graph = _lifted(layer, *shape)
    rank = min(len(graph.module.get_parameter("0.weight")), graph.module.get_parameter("0.weight")[0].numel())
    factorized = factorize(graph, {"0": rank}, {})
    (x,) = graph.example(3)
    assert torch.allclose(factorized.module(x), graph.module(x), atol=1e-5)
    assert [str(node.target) for node in factorized.module.graph.nodes if node.op == "call_module"] == ["0.inner", "0.outer"]
    assert "inner" not in str(graph.module.code)


@given(rank=st.integers(1, 5), seed=st.integers(0, 1000))
def test_directions_are_those_of_the_singular_values(rank: int, seed: int) -> None:
    weight = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(seed))
    factors = decompose(weight)
    values = torch.linalg.svdvals(weight.flatten(1).double())
    assert torch.allclose(factors.energy.double(), values.square(), rtol=1e-4)
    left = weight.flatten(1) - factors.left[:, :rank] @ factors.right[:rank].flatten(1)
    assert float(left.double().square().sum()) == pytest.approx(float(values[rank:].square().sum()), rel=1e-3, abs=1e-9)
    assert torch.allclose(factors.left.norm(dim=0), factors.right.flatten(1).norm(dim=1), rtol=1e-3)


def _correlated(seed: int) -> list[tuple[Tensor, Tensor]]:
    """Batches of vectors of 8 numbers that vary along few directions, around a mean."""
    rng = torch.Generator().manual_seed(seed)
    mixing = torch.randn(8, 8, generator=rng) * torch.logspace(0, -1.5, 8)[:, None]
    return [(torch.randn(64, 8, generator=rng) @ mixing + 3.0, torch.zeros(64)) for _ in range(4)]


@settings(max_examples=10)
@given(rank=st.integers(1, 5), seed=st.integers(0, 1000), bias=st.booleans())
def test_with_data_no_factors_of_that_rank_come_nearer_to_the_outputs(rank: int, seed: int, bias: bool) -> None:
    torch.manual_seed(seed)
    graph, batches = _lifted(nn.Linear(8, 6, bias=bias), 8), _correlated(seed)
    moments = gather(graph.module, ["0"], batches)
    x = torch.cat([batch for batch, _ in batches])

    def spread(smaller: ModelGraph) -> float:
        """Variance of what is lost: a constant shift is for the bias, or for the norm behind the layer."""
        with torch.no_grad():
            lost = smaller.module(x) - graph.module(x)
        if bias:
            assert smaller is blind or lost.mean(0).abs().max() < 1e-4
        return float((lost - lost.mean(0)).double().square().sum(1).mean())

    blind, seeing = factorize(graph, {"0": rank}, {}), factorize(graph, {"0": rank}, moments)
    energy = decompose(graph.module.get_parameter("0.weight"), moments["0"]).energy
    assert spread(seeing) <= spread(blind) * (1 + RIDGE)
    assert spread(seeing) <= float(energy[rank:].sum()) * (1 + 1e-3) + 1e-8  # which counts the ridge too
    assert float(energy.sum()) == pytest.approx(float((graph.module(x).detach()).var(0, correction=0).sum()), rel=0.02)


@pytest.mark.parametrize("quantity", FIGURES)
@pytest.mark.parametrize("name", ["resnet8", "vit"])
def test_what_was_counted_is_what_cut_and_factorized_layers_cost(name: str, quantity: Quantity) -> None:
    graph = load_model(name)
    prunable = open_blocks(graph, ("channels", "lowrank"))
    cost = footprint(prunable.graph, prunable.coupling, quantity, prunable.ranks)
    rng = np.random.default_rng(0)
    for share in (1.0, 0.8, 0.4, 0.1):
        keep = np.ones(prunable.coupling.classes, dtype=bool)
        for group, classes in zip(prunable.groups, prunable.classes, strict=True):
            keep[rng.permutation(classes)[max(1, round(group.size * share)) :]] = False
        ranks = paying(prunable, cost, keep)
        smaller = factorize(cut(prunable.graph, prunable.coupling, keep), ranks, {})
        assert cost(keep) == getattr(total(smaller), FIGURES[quantity])
    assert cost(np.ones_like(keep)) == cost.whole


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(value: float) -> None:
    weight = torch.ones(3, 4)
    weight[1, 2] = value
    with pytest.raises(InputError, match="a layer cannot be factorized: its weights, or what reaches it, are not finite"):
        decompose(weight)
    graph = _lifted(nn.Linear(4, 3), 4)
    moments = gather(graph.module, ["0"], [(torch.full((8, 4), value), torch.zeros(8))])
    with pytest.raises(InputError, match="not finite"):
        factorize(graph, {"0": 1}, moments)


@pytest.mark.parametrize("dead", ["weights", "inputs"])
def test_dead_layers_are_factorized_like_others(dead: str) -> None:
    graph = _lifted(nn.Linear(4, 3), 4)
    if dead == "weights":
        nn.init.zeros_(graph.module.get_parameter("0.weight"))
    x = torch.zeros(8, 4) if dead == "inputs" else torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    smaller = factorize(graph, {"0": 1}, gather(graph.module, ["0"], [(x, torch.zeros(8))]))
    assert torch.allclose(smaller.module(x), graph.module(x), atol=1e-6)


def test_factors_outlast_files(digits_net: ModelGraph) -> None:
    factorized = factorize(digits_net, {"layer2.0.conv1": 3, "layer3.0.conv2": 5}, {})
    exported = export_onnx(factorized).SerializeToString()
    assert check_parity(factorized, exported).max_abs_error < 1e-4
    (x,) = digits_net.example(2)
    for file in (exported, save_checkpoint(factorized, "pt"), save_checkpoint(factorized, "safetensors")):
        again = load_model(file)
        assert torch.allclose(again.module(x), factorized.module(x), atol=1e-5)
        assert total(again) == total(factorized) or file is exported  # which folds norms
