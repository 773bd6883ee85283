"""Ranks through the engine: targets are hit, directions fall in the order that loses least, and what cannot be is said."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from typing import NoReturn

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compresskit.data.dataset import Dataset
from compresskit.errors import TargetError
from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph
from compresskit.models.load import load_model
from compresskit.models.onnx_out import export_onnx
from compresskit.models.parity import check_parity
from compresskit.pruning import cutter
from compresskit.pruning.blocks import open_blocks
from compresskit.pruning.config import BlockName, PruneConfig, Quantity, Target
from compresskit.pruning.cut import widths
from compresskit.pruning.engine import prune
from compresskit.pruning.footprint import Footprint, footprint
from compresskit.pruning.groups import Prunable
from compresskit.pruning.lowrank import direction_scores, factors_of

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = PruneConfig(target=Target("flops", 0.3), blocks=("lowrank",), epochs=1.0, batch_size=32)
BOTH: tuple[BlockName, ...] = ("channels", "lowrank")
FIGURES: dict[Quantity, str] = {"flops": "macs", "params": "params", "size": "bytes"}


def _ranks(graph: ModelGraph) -> dict[str, int]:
    return {name.removesuffix(".inner"): width for name, width in widths(graph.module).items() if name.endswith(".inner")}


@pytest.mark.parametrize("blocks", [("lowrank",), BOTH])
@pytest.mark.parametrize(("quantity", "kept"), [("flops", 0.3), ("params", 0.6), ("size", 0.4)])
def test_the_target_is_hit_within_a_percent_without_data(
    digits_net: ModelGraph, blocks: tuple[BlockName, ...], quantity: Quantity, kept: float
) -> None:
    before = {name: tensor.clone() for name, tensor in digits_net.module.state_dict().items()}
    result = prune(digits_net, None, replace(CONFIG, target=Target(quantity, kept), blocks=blocks))
    reached, whole = (getattr(total(graph), FIGURES[quantity]) for graph in (result.graph, digits_net))
    assert result.met
    assert result.reached == pytest.approx(reached / whole)
    assert reached / whole == pytest.approx(kept, rel=0.01)
    assert _ranks(result.graph)
    old, new = widths(digits_net.module), widths(result.graph.module)
    narrower = [name for name, width in old.items() if new.get(name, new.get(f"{name}.outer")) != width]
    assert bool(narrower) == (blocks == BOTH)
    assert all(torch.equal(tensor, before[name]) for name, tensor in digits_net.module.state_dict().items())


@pytest.mark.parametrize("method", ["classic", "l1l2"])
@pytest.mark.parametrize("blocks", [("lowrank",), BOTH])
def test_with_data_too_and_what_comes_out_is_what_is_exported(
    small_net: ModelGraph, digits: Dataset, blocks: tuple[BlockName, ...], method: str
) -> None:
    config = replace(CONFIG, method=method, blocks=blocks, target=Target("flops", 0.4), round_to=1)  # type: ignore[arg-type]
    result = prune(small_net, digits, config)
    assert result.reached == pytest.approx(total(result.graph).macs / total(small_net).macs)
    assert result.reached == pytest.approx(0.4, abs=0.03)  # a direction is worth some percent of the small network
    assert bool(result.path) == (method == "l1l2")
    assert check_parity(result.graph, export_onnx(result.graph).SerializeToString()).max_abs_error < 1e-4


def test_data_say_which_directions_matter(digits_net: ModelGraph, digits: Dataset) -> None:
    """Directions chosen for the inputs that there are keep more of what the network knows than those of the weights alone."""
    assert digits.test is not None
    x = digits.normalization
    inputs = (torch.from_numpy(digits.test.x) / 255 - x.mean[0]) / x.std[0]
    config = replace(CONFIG, epochs=0.0, target=Target("flops", 0.5))
    with torch.no_grad():
        wanted = digits_net.module(inputs)
        seeing, blind = ((prune(digits_net, data, config).graph.module(inputs) - wanted).norm() for data in (digits, None))
    assert seeing < 0.7 * blind


@pytest.mark.parametrize("blocks", [("ffn", "heads", "lowrank"), ("lowrank",)])
def test_transformers_are_factorized(blocks: tuple[BlockName, ...]) -> None:
    graph = load_model("bert")
    result = prune(graph, None, replace(CONFIG, blocks=blocks, target=Target("flops", 0.5)))
    assert result.met
    assert {"layers.0.attention.output", "layers.1.mlp.fc2"} & set(_ranks(result.graph))
    with torch.no_grad():
        assert result.graph.module(*graph.example(3)).isfinite().all()


def test_a_layer_stays_dense_where_its_factors_cost_no_less(digits_net: ModelGraph) -> None:
    result = prune(digits_net, None, replace(CONFIG, target=Target("flops", 0.9)))
    ranks, after = _ranks(result.graph), digits_net.module
    assert ranks
    for name, rank in ranks.items():
        weight = after.get_parameter(f"{name}.weight")
        assert (weight.shape[0] + weight[0].numel()) * rank < weight.numel()
    dense = set(widths(digits_net.module)) - set(ranks)
    assert dense
    assert all(torch.equal(result.graph.module.get_parameter(f"{name}.weight"), after.get_parameter(f"{name}.weight")) for name in dense)


def test_the_floor_of_ranks_holds_and_what_it_forbids_is_said(digits_net: ModelGraph) -> None:
    full = {layer: len(labels) for layer, labels in open_blocks(digits_net, ("lowrank",)).ranks.items()}
    result = prune(digits_net, None, replace(CONFIG, target=Target("flops", 0.05), floor=0.25))
    assert (result.met, result.out_of_reach) == (False, True)
    assert all(rank >= 0.25 * full[layer] for layer, rank in _ranks(result.graph).items())


def test_what_stays_whole_is_said_once(digits_net: ModelGraph) -> None:
    skipped = prune(digits_net, None, replace(CONFIG, blocks=BOTH)).skipped
    assert len(set(skipped)) == len(skipped)
    assert not any("not among --blocks" in skip.reason for skip in skipped)


def test_where_no_width_can_fall_ranks_go_the_whole_way(digits_net: ModelGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> NoReturn:
        raise TargetError("nothing can be cut")

    monkeypatch.setattr(cutter, "cut_to", refuse)
    result = prune(digits_net, None, replace(CONFIG, blocks=BOTH))
    alone = prune(digits_net, None, CONFIG)
    assert (result.met, _ranks(result.graph)) == (True, _ranks(alone.graph))


def test_of_what_comes_short_the_nearest_is_kept(digits_net: ModelGraph) -> None:
    """Under a floor, widths alone leave a quarter of the MACs, and ranks beside them less."""
    config = replace(CONFIG, target=Target("flops", 0.1), floor=0.5, epochs=0.0)
    alone, both = (prune(digits_net, None, replace(config, blocks=blocks)) for blocks in (("channels",), BOTH))
    assert both.reached < alone.reached
    assert (both.met, both.out_of_reach) == (False, True)
    assert not any("ranks" in note for note in both.notes)


def test_where_no_rank_may_fall_nothing_is_cut(digits_net: ModelGraph) -> None:
    with pytest.raises(TargetError, match="nothing was cut"):
        prune(digits_net, None, replace(CONFIG, floor=0.99))


@settings(max_examples=8)
@given(seed=st.integers(0, 10_000))
def test_no_other_ranks_of_that_cost_carry_more(digits_net: ModelGraph, seed: int) -> None:
    """Cutting by score, one by one, is never beaten by more than its last step: scores follow the lower convex hull of each layer."""
    prunable = open_blocks(digits_net.with_module(copy.deepcopy(digits_net.module)), ("lowrank",))
    cost = footprint(prunable.graph, prunable.coupling, "flops", prunable.ranks)
    rng = torch.Generator().manual_seed(seed)
    module = prunable.graph.module
    for layer in prunable.ranks:
        weight = module.get_parameter(f"{layer}.weight")
        matrix = torch.linalg.svd(torch.randn(weight.flatten(1).shape, generator=rng), full_matrices=False)
        spectrum = torch.rand(len(matrix.S), generator=rng).pow(3).sort(descending=True).values
        weight.data.copy_((matrix.U * spectrum @ matrix.Vh).view_as(weight))
    factors = factors_of(prunable.graph, prunable.ranks, {})
    scores = direction_scores(prunable, cost, factors)
    first, second = list(prunable.ranks)[3:5]
    tables = {layer: _table(prunable, cost, layer, factors[layer].energy) for layer in (first, second)}
    pairs = dict(zip(prunable.ranks, scores, strict=True))
    for threshold in (0.2, 0.5, 0.8):
        bound = torch.cat([pairs[first], pairs[second]]).quantile(threshold)
        gone = [int((pairs[layer] <= bound).sum()) for layer in (first, second)]
        lost, gained = (sum(tables[layer][kind][count] for layer, count in zip((first, second), gone, strict=True)) for kind in (0, 1))
        for one, two in itertools.product(range(len(tables[first][0])), range(len(tables[second][0]))):
            if tables[first][1][one] + tables[second][1][two] >= gained:
                assert tables[first][0][one] + tables[second][0][two] >= lost - 1e-6


def _table(prunable: Prunable, cost: Footprint, layer: str, energy: torch.Tensor) -> tuple[list[float], list[float]]:
    """For 0 .. rank - 1 directions gone: the share of the outputs that is lost, and what is gained."""
    labels, keep = prunable.ranks[layer], np.ones(prunable.coupling.classes, dtype=bool)
    lost, gained = [0.0], [0.0]
    for count in range(1, len(labels)):
        keep[labels[-count]] = False
        lost.append(float(energy[-count:].sum() / energy.sum()))
        gained.append(cost.whole - cost(keep))
    return lost, gained
