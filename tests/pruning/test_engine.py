"""The engine on a real network: targets, floors, rounding, what is put back, what is refused, and that nothing else changes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compresskit.data.dataset import Dataset
from compresskit.errors import InputError, TargetError, UsageError
from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.pruning import step
from compresskit.pruning.config import PruneConfig, Quantity, Target
from compresskit.pruning.criteria import CRITERIA
from compresskit.pruning.cut import cut, widths
from compresskit.pruning.engine import prune
from compresskit.pruning.groups import find_groups
from compresskit.pruning.sparsity import sparse_weights

pytestmark = pytest.mark.usefixtures("one_thread")
HALF = PruneConfig(target=Target("flops", 0.5), epochs=0.5, batch_size=64)
NEAR_HALF = pytest.approx(0.5, abs=0.05)  # a channel of the small network is worth 4% of its MACs
FREE = [name for name, criterion in CRITERIA.items() if not criterion.needs_data]
HUNGRY = [name for name, criterion in CRITERIA.items() if criterion.needs_data]


def fingerprint(graph: ModelGraph) -> str:
    digest = hashlib.sha256(graph.module.code.encode())
    for name, tensor in graph.module.state_dict().items():
        digest.update(name.encode() + str(tuple(tensor.shape)).encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def sizes(graph: ModelGraph) -> dict[str, int]:
    return {group.name: group.size for group in find_groups(graph).groups}


@pytest.mark.parametrize(("quantity", "fraction"), [("flops", 0.3), ("params", 0.7), ("size", 0.5)])
def test_a_target_is_hit_within_a_percent(digits_net: ModelGraph, quantity: Quantity, fraction: float) -> None:
    before = fingerprint(digits_net)
    result = prune(digits_net, None, PruneConfig(target=Target(quantity, fraction)))
    figure = {"flops": "macs", "params": "params", "size": "bytes"}[quantity]
    kept = getattr(total(result.graph), figure) / getattr(total(digits_net), figure)
    assert (result.reached, result.asked, result.met, result.out_of_reach) == (pytest.approx(kept), pytest.approx(fraction), True, False)
    assert abs(kept - fraction) <= 0.01 * fraction
    assert fingerprint(digits_net) == before


def test_a_count_is_hit_as_its_fraction_is(small_net: ModelGraph) -> None:
    macs = total(small_net).macs
    absolute, relative = (prune(small_net, None, PruneConfig(target=Target("flops", value))) for value in (0.5 * macs, 0.5))
    assert fingerprint(absolute.graph) == fingerprint(relative.graph)
    with pytest.raises(UsageError, match="no less than the model has"):
        prune(small_net, None, PruneConfig(target=Target("flops", float(macs))))


@pytest.mark.parametrize("criterion", FREE)
def test_every_criterion_without_data_reaches_the_target(small_net: ModelGraph, criterion: str) -> None:
    assert prune(small_net, None, replace(HALF, criterion=criterion)).reached == NEAR_HALF


@pytest.mark.parametrize("criterion", HUNGRY)
def test_a_criterion_with_data_needs_them(small_net: ModelGraph, digits: Dataset, criterion: str) -> None:
    config = replace(HALF, criterion=criterion, epochs=0.0)
    with pytest.raises(UsageError, match=f"criterion '{criterion}' needs data: give --data, or choose from l1"):
        prune(small_net, None, config)
    assert prune(small_net, digits, config).reached == NEAR_HALF


def test_layers_are_cut_alike_where_that_is_asked(digits_net: ModelGraph) -> None:
    after = sizes(prune(digits_net, None, replace(HALF, scope="layer", round_to=1)).graph)
    kept = np.array([after[name] / size for name, size in sizes(digits_net).items()])
    widest_channel = 1 / min(sizes(digits_net).values())
    assert np.ptp(kept) <= 2 * widest_channel


def test_widths_are_multiples(digits_net: ModelGraph) -> None:
    result = prune(digits_net, None, replace(HALF, round_to=8))
    changed = {name: width for name, width in widths(result.graph.module).items() if width != widths(digits_net.module)[name]}
    assert changed
    assert all(width % 8 == 0 for width in changed.values())


@pytest.mark.parametrize("steps", [1, 3])
def test_the_floor_holds_over_all_steps_and_says_what_it_forbids(small_net: ModelGraph, steps: int) -> None:
    result = prune(small_net, None, PruneConfig(target=Target("flops", 0.1), floor=0.6, steps=steps))
    after = sizes(result.graph)
    assert {name: math.ceil(0.6 * size) for name, size in sizes(small_net).items()} == after
    assert (result.met, result.out_of_reach) == (False, True)
    assert result.reached > 0.1


def test_several_steps_end_where_one_does(small_net: ModelGraph, digits: Dataset) -> None:
    result = prune(small_net, digits, replace(HALF, steps=3, epochs=3.0))
    assert result.reached == NEAR_HALF
    assert len(result.history) == 1 + 1 + 2  # 0.4 of 3 epochs before the last step, each part's last epoch being a part of one
    assert all(record.validation is not None for record in result.history)


def test_widths_are_multiples_of_eight_where_the_target_allows() -> None:
    torch.manual_seed(0)
    layers = [layer for width in (64, 64, 64, 64) for layer in (nn.LazyLinear(width), nn.ReLU())]
    net = nn.Sequential(*layers, nn.LazyLinear(10))
    net(torch.zeros(1, 64))
    graph = graph_from_module(net, [TensorSpec("x", (None, 64))], source="wide")
    for target, multiple in ((0.456, 8), (0.4, 4), (0.5, 2)):
        result = prune(graph, None, PruneConfig(target=Target("flops", target)))
        assert result.met
        assert math.gcd(8, *sizes(result.graph).values()) == multiple


def test_network_slimming_trains_the_whole_network_first(small_net: ModelGraph, digits: Dataset) -> None:
    before = fingerprint(small_net)
    result = prune(small_net, digits, replace(HALF, criterion="bn-scale", epochs=3.0))
    assert len(result.history) == 1 + 2  # a third of the epochs goes before the cut
    assert result.reached == NEAR_HALF
    assert fingerprint(small_net) == before


def test_the_nearest_that_whole_channels_allow_is_no_failure() -> None:
    net = graph_from_module(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), [TensorSpec("x", (None, 3))], source="four wide")
    result = prune(net, None, PruneConfig(target=Target("flops", 0.6)))
    assert (result.reached, result.met, result.out_of_reach) == (0.5, False, False)
    with pytest.raises(TargetError, match=r"nothing was cut: no cut of whole channels comes nearer to --flops 0.95"):
        prune(net, None, PruneConfig(target=Target("flops", 0.95)))


def test_nothing_to_cut_is_an_error() -> None:
    net = graph_from_module(nn.Sequential(nn.Linear(3, 4)), [TensorSpec("x", (None, 3))], source="one layer")
    with pytest.raises(TargetError, match="nothing can be cut from this model: 0: it is an output"):
        prune(net, None, HALF)


def _sabotage(monkeypatch: pytest.MonkeyPatch, layer: str | None) -> None:
    """Make every cut of `layer` (None: of any) compute something else."""

    def wrong(graph: ModelGraph, coupling: Any, keep: np.ndarray) -> ModelGraph:
        smaller = cut(graph, coupling, keep)
        names = [layer] if layer else [name for name, width in widths(smaller.module).items() if width != widths(graph.module)[name]]
        for name in names:
            weight = smaller.module.get_parameter(f"{name}.weight")
            if weight.shape[0] != graph.module.get_parameter(f"{name}.weight").shape[0]:
                weight.data.mul_(1.5)
        return smaller

    monkeypatch.setattr(step, "cut", wrong)


def test_a_group_whose_cut_is_wrong_is_put_back_and_named(digits_net: ModelGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    _sabotage(monkeypatch, "layer3.0.conv1")
    result = prune(digits_net, None, replace(HALF, round_to=1))
    after, before = sizes(result.graph), sizes(digits_net)
    assert [name for name in before if after[name] == before[name]] == ["layer3.0.conv1"]
    assert {skip.group: skip.reason for skip in result.skipped}["layer3.0.conv1"].startswith("cutting it changes what the model computes")
    assert result.met


def test_where_every_cut_is_wrong_nothing_is_cut(small_net: ModelGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    _sabotage(monkeypatch, None)
    with pytest.raises(TargetError, match="nothing can be cut from this model: whatever is cut"):
        prune(small_net, None, HALF)


def test_where_cuts_are_wrong_only_together_none_is_trusted(small_net: ModelGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sizes(small_net)

    def far_apart(graph: ModelGraph, coupling: Any, keep: np.ndarray, smaller: ModelGraph) -> float:
        cut_groups = [name for name, size in sizes(smaller).items() if size != whole[name]]
        return 1.0 if len(cut_groups) > 1 else 0.0

    monkeypatch.setattr(step, "disagreement", far_apart)
    with pytest.raises(TargetError, match="nothing can be cut"):
        prune(small_net, None, HALF)


@pytest.mark.parametrize("criterion", ["random", "taylor"])
def test_the_seed_settles_everything(small_net: ModelGraph, digits: Dataset, criterion: str) -> None:
    def run(seed: int) -> str:
        return fingerprint(prune(small_net, digits, replace(HALF, criterion=criterion, seed=seed)).graph)

    before = fingerprint(small_net)
    assert run(1) == run(1) != run(2)
    assert fingerprint(small_net) == before


def test_training_brings_accuracy_back(digits_net: ModelGraph, digits: Dataset) -> None:
    config = PruneConfig(target=Target("flops", 0.2), epochs=4.0, batch_size=32)
    records = prune(digits_net, digits, config).history
    assert [record.validation.count for record in records if record.validation] == [100] * 4
    assert records[-1].validation is not None
    assert records[-1].validation.accuracy is not None
    assert records[-1].validation.accuracy > 0.9


def test_a_baked_batch_is_cut_but_not_trained(digits: Dataset) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    baked = graph_from_module(net, [TensorSpec("x", (4, 1, 8, 8))], source="baked.onnx", free_batch=False)
    assert prune(baked, None, HALF).met
    with pytest.raises(InputError, match=r"baked.onnx: its batch of 4 is baked in, so it cannot be trained: leave out --data"):
        prune(baked, digits, HALF)


ZEROS: list[tuple[str, float, Callable[[torch.Tensor], bool]]] = [
    ("unstructured", 0.8, lambda weight: True),
    ("2:4", 0.5, lambda weight: bool((weight.movedim(1, -1).unflatten(-1, (-1, 4)).count_nonzero(-1) <= 2).all())),
]


@pytest.mark.parametrize(("pattern", "sparsity", "fits"), ZEROS)
def test_zeros_outlast_training(digits_net: ModelGraph, digits: Dataset, pattern: str, sparsity: float, fits: Callable[[torch.Tensor], bool]) -> None:
    before = fingerprint(digits_net)
    result = prune(digits_net, digits, PruneConfig(sparsity=sparsity, pattern=pattern, epochs=1.0, batch_size=64))
    weights = sparse_weights(result.graph.module)
    able = {
        name: weight
        for name, weight in weights.items()
        if name.removesuffix(".weight") not in {skip.group.removesuffix(".weight") for skip in result.skipped}
    }
    zeros, count = (sum(f(weight) for weight in able.values()) for f in (lambda weight: int((weight == 0).sum()), torch.Tensor.numel))
    assert zeros == round(sparsity * count)
    assert all(fits(weight) for weight in able.values())
    everything = sum(weight.numel() for weight in weights.values())
    assert (result.reached, result.met, result.out_of_reach) == (pytest.approx(zeros / everything), True, False)
    assert [skip.group for skip in result.skipped] == (["conv1.weight"] if pattern == "2:4" else [])  # it has one input
    assert total(result.graph) == total(digits_net)
    assert fingerprint(digits_net) == before
