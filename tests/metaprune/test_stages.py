"""The way through a metanetwork: what each stage leaves, what is counted against which network, and what is refused."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compresskit.data import Dataset
from compresskit.errors import InputError
from compresskit.metaprune.config import MetapruneConfig
from compresskit.metaprune.curve import pruning_curve
from compresskit.metaprune.explain import compare_layers
from compresskit.metaprune.network import Metanetwork
from compresskit.metaprune.rewriting import rewritten
from compresskit.metaprune.stages import metaprune
from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph
from compresskit.pruning.config import PruneConfig, Target
from compresskit.training.evaluation import evaluate
from compresskit.training.tuning import Checkpointing

CONFIG = PruneConfig(target=Target("flops", 0.5), criterion="l2", scope="global", epochs=0.5, batch_size=50)
META = MetapruneConfig(epochs=0.5)


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None: ...


def test_each_stage_is_reported(digits_net: ModelGraph, digits: Dataset, metanetwork: Metanetwork) -> None:
    before = {name: tensor.clone() for name, tensor in digits_net.module.state_dict().items()}
    result = metaprune(digits_net, digits, CONFIG, MetapruneConfig(0.5, 1.3, 0.5, curve=True, explain=True), metanetwork=metanetwork)
    whole = total(digits_net).macs
    assert [stage.name for stage in result.steps] == ["original", "initial pruning", "metanetwork", "fine-tuning", "pruning"]
    assert [stage.macs / whole for stage in result.steps] == pytest.approx([1, 1 / 1.3, 1 / 1.3, 1 / 1.3, 0.5], rel=0.02)
    assert result.steps[-1].macs == total(result.pruned.graph).macs
    assert result.steps[-1].accuracy.value == evaluate(result.pruned.graph.module, digits.validation, digits.normalization).accuracy
    assert result.pruned.asked == pytest.approx(0.5)
    assert result.pruned.reached == pytest.approx(total(result.pruned.graph).macs / whole)
    assert result.curve_before[0].speedup == result.curve_after[0].speedup == 1
    assert result.curve_after[0].accuracy == result.steps[-2].accuracy.value
    assert result.statistics[0].name == "conv1"
    assert all(torch.equal(tensor, before[name]) for name, tensor in digits_net.module.state_dict().items())


def test_weights_become_zero_where_that_is_asked(digits_net: ModelGraph, digits: Dataset, metanetwork: Metanetwork) -> None:
    result = metaprune(digits_net, digits, replace(CONFIG, target=None, sparsity=0.5, pattern="2:4"), META, metanetwork=metanetwork)
    weight = result.pruned.graph.module.get_parameter("layer1.0.conv1.weight")
    assert (weight.unflatten(1, (-1, 4)).count_nonzero(2) <= 2).all()
    assert [stage.name for stage in result.steps] == ["original", "metanetwork", "fine-tuning", "pruning"]


def test_a_second_run_goes_on_where_the_first_was(digits_net: ModelGraph, digits: Dataset, metanetwork: Metanetwork, tmp_path: Path) -> None:
    """Every stage that trains keeps a state of its own, and ends at once when it finds it finished."""
    meta = MetapruneConfig(0.5, 1.3, 0.5)
    kept = Checkpointing(tmp_path / "state", resume=True)
    first, second = (metaprune(digits_net, digits, CONFIG, meta, metanetwork=metanetwork, checkpointing=kept).pruned.graph for _ in range(2))
    assert {path.name for path in tmp_path.iterdir() if not path.name.endswith(".previous")} == {"state", "state.2", "state.3"}
    for name, tensor in first.module.state_dict().items():
        assert torch.equal(tensor, second.module.state_dict()[name])


def test_the_curve_starts_whole_and_ends_at_the_floor(digits_net: ModelGraph, digits: Dataset) -> None:
    points = pruning_curve(digits_net, digits, replace(CONFIG, floor=0.5), speedups=(1, 1.5, 2, 50))
    assert [point.speedup for point in points] == pytest.approx([1, 1.5, 2], rel=0.03)
    assert points[0].accuracy == evaluate(digits_net.module, digits.validation, digits.normalization).accuracy
    assert points[-1].accuracy < points[0].accuracy


def test_curves_are_of_criteria_that_need_data_too(digits_net: ModelGraph, digits: Dataset) -> None:
    by_norm, by_taylor = (pruning_curve(digits_net, digits, replace(CONFIG, criterion=name), speedups=(1, 3)) for name in ("l2", "taylor"))
    assert by_norm[0] == by_taylor[0]
    assert by_norm[1] != by_taylor[1]


def test_rewriting_changes_what_the_metanetwork_changes(digits_net: ModelGraph, metanetwork: Metanetwork) -> None:
    """With decoders of zeros nothing, and with others only parameters."""
    changed, unconverted = rewritten(digits_net, metanetwork)
    assert unconverted == ()
    state = digits_net.module.state_dict()
    same = {name for name, tensor in changed.module.state_dict().items() if torch.equal(tensor, state[name])}
    assert same == {name for name, _ in digits_net.module.named_buffers()}
    for decoder in (metanetwork.node_decoder, metanetwork.edge_decoder, metanetwork.tap_decoder):
        for parameter in decoder.parameters():
            torch.nn.init.zeros_(parameter)
    changed, _ = rewritten(digits_net, metanetwork)
    assert all(torch.equal(tensor, state[name]) for name, tensor in changed.module.state_dict().items())


def test_statistics_follow_the_weights(digits_net: ModelGraph, digits: Dataset) -> None:
    """A network whose first filters are twice as large, under a norm that divides by their size: the norm doubles, the sensitivity stays."""
    larger = digits_net.with_module(copy.deepcopy(digits_net.module))
    with torch.no_grad():
        larger.module.get_parameter("conv1.weight").mul_(2)
        larger.module.get_buffer("bn1.running_mean").mul_(2)
        larger.module.get_buffer("bn1.running_var").mul_(4)
    x = torch.from_numpy(digits.train.x[:64]).float() / 255
    batches = [((x - 0.3) / 0.4, torch.from_numpy(digits.train.y[:64]))]
    rows = {row.name: row for row in compare_layers(digits_net, larger, batches)}
    assert rows["conv1"].norm_after == pytest.approx(2 * rows["conv1"].norm_before)
    assert rows["conv1"].sensitivity_after == pytest.approx(rows["conv1"].sensitivity_before, rel=0.05)
    assert rows["layer1.0.conv1"].norm_after == rows["layer1.0.conv1"].norm_before


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")])
def test_what_it_needs_is_said_where_memory_runs_out(
    digits_net: ModelGraph, metanetwork: Metanetwork, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("compresskit.metaprune.rewriting.rewrite", fail)
    with pytest.raises(InputError, match=r"not enough memory for the metanetwork: \d+ edges of 8 numbers take about 0.0 GB; use one of a smaller"):
        rewritten(digits_net, metanetwork)


def test_other_errors_stay_what_they_are(digits_net: ModelGraph, metanetwork: Metanetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr("compresskit.metaprune.rewriting.rewrite", fail)
    with pytest.raises(RuntimeError, match="something else"):
        rewritten(digits_net, metanetwork)
