"""Widths learned from data, through the engine: the target is hit, the path is told, a killed run goes on to the same model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compresskit.data.dataset import Dataset
from compresskit.errors import GuardError, TargetError, UsageError
from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.pruning.config import BlockName, PruneConfig, Quantity, Target
from compresskit.pruning.cut import widths
from compresskit.pruning.engine import prune
from compresskit.pruning.groups import find_groups
from compresskit.pruning.surrogate.learn import starting, starting_ranks
from compresskit.training.tuning import Checkpointing

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = PruneConfig(target=Target("flops", 0.3), method="l1l2", epochs=3.0, batch_size=32, round_to=1)


@given(scores=st.lists(st.floats(-1e6, 1e6) | st.just(float("inf")), min_size=2, max_size=40))
def test_masks_begin_in_the_order_of_the_scores(scores: list[float]) -> None:
    given_scores = torch.tensor(scores)
    mask = starting(given_scores)
    assert 0 < mask.min() < mask.max() < 1
    assert (given_scores[mask.argsort()].diff().nan_to_num(0) >= 0).all()


def test_masks_on_ranks_begin_in_the_order_of_all_scores_and_the_later_of_equals_goes_first() -> None:
    scores = [torch.tensor([torch.inf, 5.0, 1.0, 1.0]), torch.tensor([torch.inf, 3.0])]
    assert starting_ranks([]) == []
    mask = torch.cat(starting_ranks(scores))
    assert mask.argsort().tolist() == [3, 2, 5, 1, 4, 0] or mask.argsort().tolist() == [3, 2, 5, 1, 0, 4]
    assert 0 < mask.min() < mask.max() < 1


@pytest.mark.parametrize("kept", [0.3, 0.7])
@pytest.mark.parametrize("blocks", [("lowrank",), ("channels", "lowrank")])
def test_ranks_are_learned_to_the_target_too(digits_net: ModelGraph, digits: Dataset, blocks: tuple[BlockName, ...], kept: float) -> None:
    result = prune(digits_net, digits, replace(CONFIG, target=Target("flops", kept), blocks=blocks, epochs=2.0))
    assert result.met
    assert total(result.graph).macs == pytest.approx(kept * total(digits_net).macs, rel=0.01)
    assert any(name.endswith(".inner") for name in widths(result.graph.module))
    assert result.path[-1].cost < result.path[0].cost


def test_a_layer_that_would_be_emptied_is_kept_at_one_channel_and_reported(small_net: ModelGraph, digits: Dataset) -> None:
    result = prune(small_net, digits, replace(CONFIG, target=Target("flops", 0.001), floor=0.0, epochs=1.0))
    assert (result.met, result.out_of_reach) == (False, True)
    assert {group.size for group in find_groups(result.graph).groups} == set()
    narrow = [name for name, width in widths(result.graph.module).items() if width == 1]
    assert result.notes == tuple(f"{name} is down to its last channel" for name in narrow)
    assert narrow


@pytest.mark.parametrize(("quantity", "kept"), [("flops", 0.3), ("params", 0.5), ("size", 0.6)])
def test_the_target_is_hit_within_a_percent_and_the_path_leads_there(
    digits_net: ModelGraph, digits: Dataset, quantity: Quantity, kept: float
) -> None:
    result = prune(digits_net, digits, replace(CONFIG, target=Target(quantity, kept)))
    assert result.met
    assert result.reached == pytest.approx(kept, rel=0.01)
    assert result.path[-1].done == 1
    assert result.path[-1].cost == pytest.approx(kept, abs=0.1)
    costs = [point.cost for point in result.path]
    assert costs[0] > costs[len(costs) // 2] > costs[-1]
    assert any(point.multiplier > 0 for point in result.path)
    assert len(result.history) == 1 + 3  # a part of an epoch, and 2.4 epochs


def test_floors_and_multiples_hold(digits_net: ModelGraph, digits: Dataset) -> None:
    after = prune(digits_net, digits, replace(CONFIG, target=Target("flops", 0.25), floor=0.4, round_to=2)).graph
    before = {group.name: group.size for group in find_groups(digits_net).groups}
    widths = {group.name: group.size for group in find_groups(after).groups}
    assert all(width >= 0.4 * before[name] and width % 2 == 0 for name, width in widths.items())


def test_without_epochs_the_criterion_alone_decides(digits_net: ModelGraph, digits: Dataset) -> None:
    result = prune(digits_net, digits, replace(CONFIG, epochs=0.0))
    assert (result.met, result.history, result.path) == (True, (), ())


@pytest.mark.parametrize("criterion", ["l1", "bn-scale", "taylor"])
def test_every_criterion_may_say_where_masks_begin(small_net: ModelGraph, digits: Dataset, criterion: str) -> None:
    result = prune(small_net, digits, replace(CONFIG, criterion=criterion, target=Target("flops", 0.5), epochs=1.0))
    assert total(result.graph).macs == pytest.approx(0.5 * total(small_net).macs, rel=0.1)


def test_the_seed_settles_everything_and_the_model_given_is_left_as_it_was(small_net: ModelGraph, digits: Dataset) -> None:
    before = {name: tensor.clone() for name, tensor in small_net.module.state_dict().items()}
    first, second = (prune(small_net, digits, replace(CONFIG, epochs=1.0)).graph.module.state_dict() for _ in range(2))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert all(torch.equal(tensor, before[name]) for name, tensor in small_net.module.state_dict().items())


class Killed(BaseException):
    """What a signal handler raises."""


class Killer:
    """A progress that raises in one training step, counted over the whole run."""

    def __init__(self, deadly: int) -> None:
        self.left = deadly

    def stage(self, name: str, total: int | None = None) -> None: ...

    def advance(self, steps: int = 1, **figures: float) -> None:
        self.left -= steps
        if self.left < 0:
            raise Killed

    def note(self, message: str) -> None: ...


@pytest.mark.parametrize("blocks", [("channels",), ("channels", "lowrank")])
@pytest.mark.parametrize("deadly", [2, 9])  # of 3 steps of the search and 27 after the cut
def test_a_run_killed_while_lambda_is_found_or_later_goes_on_to_the_same_result(
    small_net: ModelGraph, digits: Dataset, tmp_path: Path, deadly: int, blocks: tuple[BlockName, ...]
) -> None:
    kept, config = Checkpointing(tmp_path / "run", minutes=0.0), replace(CONFIG, blocks=blocks)
    whole = prune(small_net, digits, config)
    with pytest.raises(Killed):
        prune(small_net, digits, config, checkpointing=kept, progress=Killer(deadly))
    assert kept.phase(1).exists()
    assert kept.phase(0).exists() == (deadly > 3)
    resumed = prune(small_net, digits, config, checkpointing=replace(kept, resume=True))
    assert resumed.path == whole.path
    assert [replace(record, seconds=0.0) for record in resumed.history] == [replace(record, seconds=0.0) for record in whole.history]
    after = resumed.graph.module.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in whole.graph.module.state_dict().items())


def test_what_cannot_be_learned_is_refused(small_net: ModelGraph, digits: Dataset) -> None:
    with pytest.raises(UsageError, match="--method l1l2 learns from data: give --data, or --method classic"):
        prune(small_net, None, CONFIG)
    with pytest.raises(GuardError, match="lower the learning rate"):
        prune(small_net, digits, replace(CONFIG, learning_rate=1e30))
    single = graph_from_module(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)), [TensorSpec("x", (None, 1, 8, 8))], source="one layer"
    )
    with pytest.raises(TargetError, match="nothing can be cut from this model"):
        prune(single, digits, CONFIG)
