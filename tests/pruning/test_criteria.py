"""Every criterion against a slow reference in plain loops, on groups written by hand."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch_pruning as tp
from torch import Tensor, nn

from compresskit.errors import InputError, UsageError
from compresskit.pruning.criteria import CRITERIA, Context, Criterion, criterion, slimming_penalty
from compresskit.pruning.criteria.magnitude import GroupNorm
from compresskit.pruning.groups import Group, Slices


class Net(nn.Module):
    """Two branches concatenated, a norm, a convolution, and a linear layer on its flattened output."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 5, 3, padding=1)
        self.right = nn.Conv2d(3, 4, 1, bias=False)
        self.norm = nn.BatchNorm2d(9)
        self.conv = nn.Conv2d(9, 6, 3)
        self.head = nn.Linear(6 * 4, 4)
        for tensor in (self.norm.weight, self.norm.bias, self.norm.running_mean):
            nn.init.normal_(tensor)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(torch.cat([self.left(x), self.right(x)], dim=1)).relu()
        return self.head(self.conv(y).relu().flatten(1))


def slices(parameter: str, dim: int, role: str, channels: list[int]) -> Slices:
    return Slices(parameter, dim, role, np.arange(len(channels)), np.array(channels, dtype=np.int64))  # type: ignore[arg-type]


BRANCHES = Group(
    "branches",
    9,
    (
        slices("left.weight", 0, "out", [0, 1, 2, 3, 4]),
        slices("left.bias", 0, "bias", [0, 1, 2, 3, 4]),
        slices("right.weight", 0, "out", [5, 6, 7, 8]),
        slices("norm.weight", 0, "norm", list(range(9))),
        slices("norm.bias", 0, "norm", list(range(9))),
        slices("norm.running_mean", 0, "norm", list(range(9))),
        slices("norm.running_var", 0, "norm", list(range(9))),
        slices("conv.weight", 1, "in", list(range(9))),
    ),
)
FLAT = Group(
    "flat",
    6,
    (
        slices("conv.weight", 0, "out", list(range(6))),
        slices("conv.bias", 0, "bias", list(range(6))),
        slices("head.weight", 1, "in", [channel for channel in range(6) for _ in range(4)]),
    ),
)
WEIGHTS = ("left.weight", "right.weight", "norm.weight", "conv.weight", "head.weight")


@pytest.fixture
def context() -> Context:
    torch.manual_seed(0)
    batches = [(torch.randn(5, 3, 4, 4), torch.randint(0, 4, (5,))) for _ in range(3)]
    return Context(Net(), (BRANCHES, FLAT), batches, F.cross_entropy, seed=7)


def scores(name: str, context: Context) -> list[Tensor]:
    return CRITERIA[name](context)


def entries(context: Context, group: Group, channel: int, tensors: dict[str, Tensor] | None = None) -> Iterator[tuple[Slices, list[float]]]:
    """Each slice that has a part of `channel`, with that part's numbers, picked one position at a time."""
    tensors = dict(context.module.named_parameters()) if tensors is None else tensors
    for piece in group.slices:
        parts = [
            tensors[piece.parameter].select(piece.dim, int(position)).flatten().tolist()
            for position, owner in zip(piece.positions, piece.channels, strict=True)
            if owner == channel and piece.parameter in tensors
        ]
        if parts:
            yield piece, [number for part in parts for number in part]


def reference(context: Context, score: Callable[[Group, int], float]) -> list[Tensor]:
    return [torch.tensor([score(group, channel) for channel in range(group.size)]) for group in context.groups]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def magnitude(context: Context, power: int) -> Callable[[Group, int], float]:
    def score(group: Group, channel: int) -> float:
        return mean([sum(abs(w) ** power for w in part) for piece, part in entries(context, group, channel) if piece.parameter in WEIGHTS])

    return score


def close(actual: list[Tensor], expected: list[Tensor]) -> bool:
    return all(torch.allclose(a, e.float(), rtol=1e-4, atol=1e-7) for a, e in zip(actual, expected, strict=True))


@pytest.mark.parametrize(("name", "power"), [("l1", 1), ("l2", 2)])
def test_group_magnitude_equals_loops(context: Context, name: str, power: int) -> None:
    assert close(scores(name, context), reference(context, magnitude(context, power)))


@pytest.mark.parametrize("reduce", ["mean", "first"])
@pytest.mark.parametrize("p", [1, 2, 2.5])
def test_the_shares_of_a_group_norm_are_its_gradient(context: Context, reduce: Literal["mean", "first"], p: float) -> None:
    """Of what a layer holds of a channel, its share counts: so the gradient is that of the sums of powers, shared out."""
    norm, weights = GroupNorm(p, reduce), context.parameters()
    for group in context.groups:
        pieces, slope = norm.pieces(group, weights), torch.rand(group.size)
        names = [piece.parameter for piece in pieces]
        assert len(set(names)) == len(names)
        found = torch.autograd.grad(
            (norm(group, weights) * slope).sum(), [weights[name] for name in names], materialize_grads=True, allow_unused=True
        )
        for piece, share, gradient in zip(pieces, norm.shares(group, weights), found, strict=True):
            factor = torch.zeros(weights[piece.parameter].shape[piece.dim])
            factor[torch.from_numpy(piece.positions)] = (share * slope)[torch.from_numpy(piece.channels)]
            w = weights[piece.parameter].detach().movedim(piece.dim, -1)
            assert torch.allclose(gradient.movedim(piece.dim, -1), factor * p * w.abs() ** (p - 1) * w.sign(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("name", "power"), [("l1-first", 1), ("l2-first", 2)])
def test_producer_magnitude_equals_loops(context: Context, name: str, power: int) -> None:
    def score(group: Group, channel: int) -> float:
        producer = next(part for piece, part in entries(context, group, channel) if piece.role == "out")
        return sum(abs(w) ** power for w in producer)

    assert close(scores(name, context), reference(context, score))


def test_the_first_producer_wins() -> None:
    """In a residual sum two convolutions produce the same channels."""
    module = nn.ModuleDict({"a": nn.Conv2d(2, 3, 1), "b": nn.Conv2d(2, 3, 1)})
    group = Group("sum", 3, (slices("b.weight", 0, "out", [0, 1, 2]), slices("a.weight", 0, "out", [0, 1, 2])))
    (score,) = scores("l1-first", Context(module, (group,)))
    torch.testing.assert_close(score, module["b"].weight.detach().abs().sum((1, 2, 3)))


def test_bn_scale_equals_loops_and_keeps_what_has_no_norm(context: Context) -> None:
    branches, flat = scores("bn-scale", context)
    torch.testing.assert_close(branches, context.module.norm.weight.detach().abs())
    assert flat.isposinf().all()


def test_bn_scale_without_norms_is_refused(context: Context) -> None:
    with pytest.raises(UsageError, match="no channel of this model has one"):
        scores("bn-scale", replace(context, groups=(FLAT,)))


def test_slimming_penalty_is_the_sum_of_scales_and_trains_them() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm1d(2), nn.BatchNorm1d(4, affine=False), nn.LayerNorm(5))
    nn.init.constant_(net[0].weight, -2.0)
    penalty = slimming_penalty(net)
    assert penalty.item() == pytest.approx(1e-4 * (3 * 2 + 2))
    penalty.backward()
    assert net[0].weight.grad.tolist() == pytest.approx([-1e-4] * 3)
    assert slimming_penalty(nn.ReLU()).item() == 0


def products(context: Context) -> list[dict[str, Tensor]]:
    """w * g of each batch by the textbook: backward, then read `grad`."""
    module = copy.deepcopy(context.module).eval()
    result = []
    for x, y in context.batches:
        module.zero_grad()
        context.loss(module(x), y).backward()
        result.append({name: (parameter * parameter.grad).detach() for name, parameter in module.named_parameters()})
    return result


def test_taylor_equals_loops(context: Context) -> None:
    def score(group: Group, channel: int) -> float:
        return mean([sum(sum(part) for _, part in entries(context, group, channel, batch)) ** 2 for batch in products(context)])

    assert close(scores("taylor", context), reference(context, score))


def test_hessian_equals_loops(context: Context) -> None:
    def score(group: Group, channel: int) -> float:
        return mean([sum(sum(v * v for v in part) for _, part in entries(context, group, channel, batch)) / 2 for batch in products(context)])

    assert close(scores("hessian", context), reference(context, score))


def test_fpgm_equals_loops(context: Context) -> None:
    def score(group: Group, channel: int) -> float:
        sums = []
        for piece, part in entries(context, group, channel):
            if piece.role == "out":
                alone = replace(group, slices=(piece,))
                others = [other for channel in range(group.size) for _, other in entries(context, alone, channel)]
                sums.append(sum(math.dist(part, other) for other in others))
        return mean(sums)

    assert close(scores("fpgm", context), reference(context, score))


def test_fpgm_compares_all_that_a_layer_holds_of_a_channel() -> None:
    """One output layer makes two parts of channel 0 and one of channel 1, which counts as having a zero second part."""
    module = nn.ModuleDict({"a": nn.Linear(1, 3, bias=False)})
    module["a"].weight.data = torch.tensor([[1.0], [4.0], [4.0]])
    (score,) = scores("fpgm", Context(module, (Group("split", 2, (slices("a.weight", 0, "out", [0, 1, 0]),)),)))
    torch.testing.assert_close(score, torch.full((2,), math.dist([1, 4], [4, 0])))


def test_fpgm_of_equal_filters_is_nothing() -> None:
    module = nn.ModuleDict({"a": nn.Conv2d(64, 40, 3)})
    module["a"].weight.data[:] = module["a"].weight.data[:1]
    (score,) = scores("fpgm", Context(module, (Group("g", 40, (slices("a.weight", 0, "out", list(range(40))),)),)))
    assert score.max() < 1e-5


def test_lamp_equals_loops(context: Context) -> None:
    energies = [[magnitude(context, 2)(group, channel) for channel in range(group.size)] for group in context.groups]
    expected = [torch.tensor([mine / sum(other for other in energy if other >= mine) for mine in energy]) for energy in energies]
    assert close(scores("lamp", context), expected)


def test_lamp_treats_equal_channels_alike_and_dead_ones_as_worthless() -> None:
    module = nn.ModuleDict({"a": nn.Linear(1, 4, bias=False)})
    module["a"].weight.data = torch.tensor([[1.0], [0.0], [-1.0], [2.0]])
    (score,) = scores("lamp", Context(module, (Group("g", 4, (slices("a.weight", 0, "out", [0, 1, 2, 3]),)),)))
    torch.testing.assert_close(score, torch.tensor([1 / 6, 0, 1 / 6, 1]))
    module["a"].weight.data.zero_()
    assert scores("lamp", Context(module, (Group("g", 4, (slices("a.weight", 0, "out", [0, 1, 2, 3]),)),)))[0].tolist() == [0] * 4


def test_uniform_ranks_by_l1_and_keeps_the_same_fraction_of_every_group(context: Context) -> None:
    ranks = scores("uniform", context)
    for rank, magnitudes in zip(ranks, scores("l1", context), strict=True):
        assert torch.equal(rank.argsort(), magnitudes.argsort())
        for threshold in (0.2, 0.5, 0.8):
            assert abs((rank >= threshold).sum().item() - len(rank) * (1 - threshold)) <= 0.5


def test_random_follows_the_seed(context: Context) -> None:
    first, again, other = (scores("random", replace(context, seed=seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert all(len(set(score.tolist())) == group.size for score, group in zip(first, context.groups, strict=True))


@pytest.mark.parametrize("name", CRITERIA)
def test_scores_have_the_promised_form_and_nothing_is_changed(context: Context, name: str) -> None:
    context.module.train()
    context.module.conv.eval()
    context.module.conv.weight.requires_grad_(False)
    before = copy.deepcopy(context.module.state_dict())
    result = scores(name, context)
    assert [score.shape for score in result] == [(9,), (6,)]
    assert all(score.dtype == torch.float32 and score.device.type == "cpu" and not score.requires_grad and (score >= 0).all() for score in result)
    assert all(torch.equal(tensor, before[key]) for key, tensor in context.module.state_dict().items())
    assert all(parameter.grad is None for parameter in context.module.parameters())
    assert [part.training for part in (context.module, context.module.norm, context.module.conv)] == [True, True, False]


@pytest.mark.parametrize("name", [name for name in CRITERIA if name != "random"])
def test_relabelling_channels_permutes_scores(context: Context, name: str) -> None:
    rng = np.random.default_rng(3)
    labels = [rng.permutation(group.size) for group in context.groups]
    relabelled = tuple(
        replace(group, slices=tuple(replace(piece, channels=label[piece.channels]) for piece in group.slices))
        for group, label in zip(context.groups, labels, strict=True)
    )
    permuted = scores(name, replace(context, groups=relabelled))
    assert close([score[torch.from_numpy(label)] for score, label in zip(permuted, labels, strict=True)], scores(name, context))


@pytest.mark.parametrize(
    ("name", "power"), [("l1", 1), ("l2", 2), ("l1-first", 1), ("l2-first", 2), ("fpgm", 1), ("bn-scale", 1), ("lamp", 0), ("uniform", 0)]
)
def test_scores_scale_as_the_weights_do(context: Context, name: str, power: int) -> None:
    before = scores(name, context)
    with torch.no_grad():
        for parameter in context.module.parameters():
            parameter.mul_(3)
    assert close(scores(name, context), [score * 3**power for score in before])


@pytest.mark.parametrize("name", ["taylor", "hessian"])
def test_rescaling_that_leaves_the_function_alone_leaves_the_scores_alone(context: Context, name: str) -> None:
    """relu(a x) / a = relu(x): only criteria that look at the loss see that nothing changed."""
    before = scores(name, context)
    factors = torch.rand(9) + 0.5
    with torch.no_grad():
        context.module.norm.weight.mul_(factors)
        context.module.norm.bias.mul_(factors)
        context.module.conv.weight.div_(factors[:, None, None])
    assert close(scores(name, context), before)


@pytest.mark.parametrize("name", ["l1", "l2", "taylor", "hessian", "lamp"])
def test_a_dead_channel_is_worth_nothing(context: Context, name: str) -> None:
    with torch.no_grad():
        for tensor in (context.module.conv.weight[2], context.module.conv.bias[2], context.module.head.weight[:, 8:12]):
            tensor.zero_()
    flat = scores(name, context)[1]
    assert flat[2] == 0
    assert flat.argmin() == 2


def test_tied_parameters_have_the_gradient_of_all_their_uses() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh(), nn.Linear(3, 3, bias=False))
    module[2].weight = module[0].weight
    batches = [(torch.randn(4, 3), torch.randn(4, 3))]
    group = Group("tied", 3, (slices("2.weight", 0, "out", [0, 1, 2]),))
    (score,) = scores("taylor", Context(module, (group,), batches, F.mse_loss))
    F.mse_loss(module(batches[0][0]), batches[0][1]).backward()
    weight = module[0].weight
    torch.testing.assert_close(score, (weight * weight.grad).sum(1).square().detach())


@pytest.mark.parametrize(("name", "p"), [("l1", 1), ("l2", 2)])
def test_group_magnitude_equals_torch_pruning(name: str, p: int) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
    nn.init.normal_(module[1].weight)
    theirs = tp.DependencyGraph().build_dependency(module, torch.randn(1, 3, 9, 9))
    pruned = theirs.get_pruning_group(module[0], tp.prune_conv_out_channels, idxs=list(range(8)))
    expected = tp.importance.GroupMagnitudeImportance(p=p, group_reduction="mean", normalizer=None)(pruned)
    everyone = list(range(8))
    group = Group("g", 8, (slices("0.weight", 0, "out", everyone), slices("1.weight", 0, "norm", everyone), slices("3.weight", 1, "in", everyone)))
    (score,) = scores(name, Context(module, (group,)))
    torch.testing.assert_close(score, expected)


def test_a_criterion_that_needs_data_says_so(context: Context) -> None:
    with pytest.raises(UsageError, match=r"^criterion 'taylor' needs data: give --data, or choose from l1, [^\n]*uniform"):
        scores("taylor", replace(context, batches=None))


def test_no_batches_are_an_input_error(context: Context) -> None:
    with pytest.raises(InputError, match="at least one batch"):
        scores("hessian", replace(context, batches=[]))


@pytest.mark.parametrize("name", ["l1", "lamp", "fpgm", "taylor"])
def test_weights_that_are_not_numbers_are_an_input_error(context: Context, name: str) -> None:
    context.module.conv.weight.data[0, 0, 0, 0] = math.nan
    with pytest.raises(InputError, match="not finite"):
        scores(name, context)


def test_a_criterion_registers_itself_with_its_summary() -> None:
    with pytest.raises(ValueError, match="registered already"):
        criterion("l2", needs_data=False)(lambda context: [])
    assert all(isinstance(entry, Criterion) and entry.name == name and entry.summary.endswith(".") for name, entry in CRITERIA.items())
    assert {name for name, entry in CRITERIA.items() if entry.needs_data} == {"taylor", "hessian", "reconstruction"}
