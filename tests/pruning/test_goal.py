"""What a target means for a model: counts to the digit, latencies as a table predicts them and as they are measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from compresskit.data.dataset import Dataset
from compresskit.errors import TargetError, UsageError
from compresskit.models import latency_measure
from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph
from compresskit.models.latency_measure import blank_table, measure_table
from compresskit.models.latency_operators import uses
from compresskit.models.latency_probe import Probe
from compresskit.models.latency_table import Table
from compresskit.models.load import load_model
from compresskit.pruning import goal as goals
from compresskit.pruning.blocks import open_blocks
from compresskit.pruning.config import BlockName, Method, PruneConfig, Quantity, Target
from compresskit.pruning.cut import widths
from compresskit.pruning.engine import prune
from compresskit.pruning.goal import set_goal
from compresskit.pruning.groups import find_groups

pytestmark = pytest.mark.usefixtures("one_thread")
TableOf = Callable[[ModelGraph], Table]
SLOWER = 1.1  # measured over predicted, in these tests


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Makes measuring say what the table predicts, times SLOWER for all but the uncut model; gathers what was measured."""
    found: list[float] = []

    def share(graph: ModelGraph, whole: ModelGraph, **_: Any) -> float:
        sizes = [sum(len(parameter.flatten()) for parameter in model.module.parameters()) for model in (graph, whole)]
        found.append(SLOWER * sizes[0] / sizes[1])
        return found[-1]

    monkeypatch.setattr(goals, "measured_share", share)
    return found


@pytest.mark.parametrize(("quantity", "figure"), [("flops", "macs"), ("params", "params"), ("size", "bytes")])
def test_counts_are_of_the_whole_model(small_net: ModelGraph, quantity: Quantity, figure: str) -> None:
    goal = set_goal(small_net, Target(quantity, 0.5))
    whole = getattr(total(small_net), figure)
    assert (goal.whole, goal.limit, goal.measurable) == (whole, whole / 2, False)
    assert goal.cost(find_groups(small_net)).whole == whole


def test_a_latency_is_what_the_table_predicts(small_net: ModelGraph, table_of: TableOf) -> None:
    table = table_of(small_net)
    goal = set_goal(small_net, Target("latency", 0.5), table)
    assert goal.whole == pytest.approx(table.whole(uses(small_net)).ms)
    assert (goal.limit, goal.cost(find_groups(small_net)).whole, goal.measurable) == (goal.whole / 2, goal.whole, True)
    assert not replace(goal, table=replace(table, machine="elsewhere")).measurable


def test_a_time_is_a_limit_as_it_stands(small_net: ModelGraph, table_of: TableOf) -> None:
    table = table_of(small_net)
    whole = set_goal(small_net, Target("latency", 0.5), table).whole
    assert set_goal(small_net, Target("latency", 0.7 * whole, absolute=True), table).limit == 0.7 * whole
    with pytest.raises(UsageError, match=r"--latency .* asks for no less than the model has"):
        set_goal(small_net, Target("latency", 1.1 * whole, absolute=True), table)
    with pytest.raises(TargetError, match=r"--latency .* is out of reach"):
        set_goal(small_net, Target("latency", 1e-6, absolute=True), table)


def test_a_table_is_for_latencies(small_net: ModelGraph, table_of: TableOf) -> None:
    with pytest.raises(UsageError, match="a latency table says nothing about --flops"):
        set_goal(small_net, Target("flops", 0.5), table_of(small_net))


@pytest.mark.parametrize("steps", [1, 2])
def test_the_search_goes_on_until_what_is_measured_meets_the_target(
    digits_net: ModelGraph, table_of: TableOf, measured: list[float], steps: int
) -> None:
    config = PruneConfig(target=Target("latency", 0.6), round_to=1, steps=steps)
    result = prune(digits_net, None, config, table=table_of(digits_net))
    assert result.met
    assert result.reached == pytest.approx(0.6, rel=0.03)
    assert result.tries[-1].measured == pytest.approx(result.reached * table_of(digits_net).whole(uses(digits_net)).ms)
    assert len(result.tries) == len(measured) > 1


@pytest.mark.parametrize("blocks", [("lowrank",), ("channels", "lowrank")])
@pytest.mark.parametrize("method", ["classic", "l1l2"])
def test_ranks_are_measured_as_the_layers_that_they_make(
    digits_net: ModelGraph, digits: Dataset, table_of: TableOf, monkeypatch: pytest.MonkeyPatch, blocks: tuple[BlockName, ...], method: Method
) -> None:
    """On a machine on which weights are what takes time, what comes out takes what was measured."""
    monkeypatch.setattr(goals, "measured_share", lambda graph, whole, **_: total(graph).params / total(whole).params)
    config = PruneConfig(target=Target("latency", 0.6), blocks=blocks, method=method, epochs=0.3, batch_size=32)
    result = prune(digits_net, digits, config, table=table_of(digits_net))
    assert any(name.endswith(".inner") for name in widths(result.graph.module))
    assert result.met
    assert result.reached == pytest.approx(total(result.graph).params / total(digits_net).params)


def test_what_a_table_lacks_is_measured_once(small_net: ModelGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[int] = []

    def timer(probes: Sequence[Probe], threads: int, seconds: float) -> np.ndarray:
        timed.append(len(probes))
        return np.array([len(probe.model) / 1000 for probe in probes])

    monkeypatch.setattr(latency_measure, "time_models", timer)
    table = measure_table(small_net, blank_table())
    before = len(timed)
    goal = set_goal(small_net, Target("latency", 0.7), table, blocks=("channels", "lowrank"))
    assert len(timed) > before
    before = len(timed)
    goal.cost(open_blocks(small_net, ("channels", "lowrank")))
    assert len(timed) == before


def test_ranks_stay_where_they_save_no_time(digits_net: ModelGraph, table_of: TableOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine on which a second layer takes longer than a wide one."""

    def share(graph: ModelGraph, whole: ModelGraph, **_: Any) -> float:
        ranks = sum(name.endswith(".inner") for name in widths(graph.module))
        return ranks + total(graph).params / total(whole).params

    monkeypatch.setattr(goals, "measured_share", share)
    result = prune(digits_net, None, PruneConfig(target=Target("latency", 0.6), blocks=("channels", "lowrank")), table=table_of(digits_net))
    assert result.met
    assert not any(name.endswith(".inner") for name in widths(result.graph.module))
    assert "all ranks stay: widths alone come nearer to the target" in result.notes


def test_a_table_of_another_machine_is_believed(digits_net: ModelGraph, table_of: TableOf, measured: list[float]) -> None:
    table = replace(table_of(digits_net), machine="elsewhere")
    result = prune(digits_net, None, PruneConfig(target=Target("latency", 0.6), round_to=1), table=table)
    assert (result.met, result.tries, measured) == (True, (), [])
    assert result.reached == pytest.approx(0.6, rel=0.01)


@pytest.mark.parametrize("steps", [1, 2])
def test_attention_with_fewer_heads_is_in_the_prediction(
    table_of: TableOf, measured: list[float], monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """A cut head makes an operator that no table holds beforehand."""
    monkeypatch.setattr(latency_measure, "time_models", lambda probes, *_: np.array([len(probe.model) / 1000 for probe in probes]))
    net = load_model("vit")
    result = prune(net, None, PruneConfig(target=Target("latency", 0.7), steps=steps), table=table_of(net))
    assert result.tries
    assert result.reached < 0.8


@pytest.mark.parametrize(("least", "reachable"), [(0.9, False), (0.4, True)])
def test_a_search_that_ends_short_says_whether_more_was_there(
    digits_net: ModelGraph, table_of: TableOf, monkeypatch: pytest.MonkeyPatch, least: float, reachable: bool
) -> None:
    """A machine on which nothing gets faster, but perhaps the smallest network of all."""
    smallest = total(prune(digits_net, None, PruneConfig(target=Target("flops", 0.02), round_to=4)).graph).macs
    monkeypatch.setattr(goals, "measured_share", lambda graph, *_, **__: least if total(graph).macs <= smallest else 0.9)
    result = prune(digits_net, None, PruneConfig(target=Target("latency", 0.5)), table=table_of(digits_net))
    assert (result.met, result.out_of_reach) == (False, not reachable)
    assert result.reached == pytest.approx(least)
