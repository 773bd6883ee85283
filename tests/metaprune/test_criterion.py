"""The sparsity losses: their gradients by hand against autograd, and their values against equations written out."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from compresskit.metaprune.criterion import GroupSparsity, Sparsity, WeightSparsity
from compresskit.models.load import load_model
from compresskit.pruning.criteria import CRITERIA, Context, normalize
from compresskit.pruning.criteria.magnitude import NORMS, GroupNorm
from compresskit.pruning.groups import Group, Prunable, Slices, find_groups


def row(values: list[float]) -> tuple[Group, dict[str, Tensor]]:
    """A group of channels that have one weight each."""
    places = np.arange(len(values))
    return Group("row", len(values), (Slices("w", 0, "out", places, places),)), {"w": torch.tensor(values).unsqueeze(1)}


@functools.cache
def zoo(architecture: str) -> Prunable:
    return find_groups(load_model(architecture))


def agree(sparsity: Sparsity, weights: dict[str, Tensor]) -> None:
    """Whether the gradients by hand are those of the loss."""
    leaves = {name: weight.detach().clone().requires_grad_() for name, weight in weights.items()}
    found = sparsity.gradients(leaves)
    expected = torch.autograd.grad(sparsity.loss(leaves), list(leaves.values()), allow_unused=True, materialize_grads=True)
    for name, gradient in zip(leaves, expected, strict=True):
        assert torch.allclose(found.get(name, torch.zeros_like(gradient)), gradient, rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("architecture", ["resnet8", "shufflenet_v2_x0_5", "vit"])
@pytest.mark.parametrize(
    ("norm", "normalize", "alpha", "relative"),
    [("l2", "max", 4.0, False), ("l2", "mean", 4.0, True), ("l1-first", "mean", 2.0, False), ("l2-first", "none", 0.0, False)],
)
def test_injected_gradients_are_those_of_the_loss(architecture: str, norm: str, normalize: str, alpha: float, relative: bool) -> None:
    prunable = zoo(architecture)
    agree(GroupSparsity(prunable.groups, NORMS[norm], normalize, alpha, relative), dict(prunable.graph.module.named_parameters()))


@pytest.mark.parametrize("normalize", ["mean", "max"])
def test_relative_pressure_gains_nothing_from_smaller_weights_alike(normalize: str) -> None:
    """Its gradient has no part along the weights; that of the paper's loss has."""
    group, weights = row([0.5, -2.0, 1.5, 0.25])
    pressures = (GroupSparsity([group], normalize=normalize, relative=relative).gradients(weights)["w"] for relative in (True, False))
    along = [float((pressure * weights["w"]).sum()) for pressure in pressures]
    assert along[0] == pytest.approx(0, abs=1e-5)
    assert along[1] > 1


def test_any_power_will_do() -> None:
    group, weights = row([0.5, -2.0, 1.5, 0.25])
    agree(GroupSparsity([group], GroupNorm(2.5, "mean")), weights)


def test_the_gradient_is_the_slope_of_the_loss_with_its_constants_held() -> None:
    """Finite differences of sum gamma_k I_k / max, gamma and max fixed at where the weights are."""
    values = [0.5, -2.0, 1.5, 0.25]
    group, weights = row(values)
    roots = np.abs(values)
    gamma = 2 ** (4 * (roots.max() - roots) / (roots.max() - roots.min()))
    found = GroupSparsity([group]).gradients(weights)["w"].flatten()
    for index, value in enumerate(values):
        step = 1e-3
        slope = gamma[index] * ((value + step) ** 2 - (value - step) ** 2) / (2 * step) / max(roots) ** 2
        assert float(found[index]) == pytest.approx(slope, rel=1e-4)


def test_the_loss_is_equation_26() -> None:
    group, weights = row([1.0, 2.0, 3.0])
    gamma = [2**4, 2**2, 1]  # roots 1, 2, 3: shrinkage exponents 4, 2, 0
    assert float(GroupSparsity([group]).loss(weights)) == pytest.approx(sum(g * i for g, i in zip(gamma, (1 / 9, 4 / 9, 1), strict=True)))
    assert float(GroupSparsity([group], alpha=0, normalize="none").loss(weights)) == pytest.approx(14)


@pytest.mark.parametrize("values", [[2.0, 2.0, 2.0], [0.0, 0.0], [0.0, 1.0]])
def test_equal_and_empty_channels_give_finite_gradients(values: list[float]) -> None:
    group, weights = row(values)
    sparsity = GroupSparsity([group])
    agree(sparsity, weights)
    assert sparsity.loss(weights).isfinite()


def test_channels_without_weights_are_left_out() -> None:
    """Of three channels the layer makes only two, as where a branch of a concatenation is no layer."""
    group = Group("partly", 3, (Slices("w", 0, "out", np.arange(2), np.array([0, 2])),))
    weights = {"w": torch.tensor([[1.0], [2.0]])}
    sparsity = GroupSparsity([group])
    agree(sparsity, weights)
    assert sparsity.importances(weights)[0].tolist() == [0.25, float("inf"), 1.0]


@pytest.mark.parametrize("how", ["none", "mean", "max"])
def test_importances_are_those_of_the_criterion(how: Literal["none", "mean", "max"]) -> None:
    prunable = zoo("resnet8")
    expected = CRITERIA["l2"](Context(prunable.graph.module, prunable.groups))
    found = GroupSparsity(prunable.groups, normalize=how).importances(dict(prunable.graph.module.named_parameters()))
    for scores, reference in zip(found, expected, strict=True):
        assert torch.equal(scores, normalize(reference, how))


def test_single_weights_count_by_their_size() -> None:
    weights = {"a": torch.tensor([[1.0, -2.0]]), "b": torch.tensor([3.0])}
    sparsity = WeightSparsity(["a"])
    agree(sparsity, weights)
    assert float(sparsity.loss(weights)) == 3.0
