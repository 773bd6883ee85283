"""The figures of a report against their definitions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from compresskit.data.dataset import Dataset
from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph
from compresskit.models.latency import Latency
from compresskit.pruning import measure as measuring
from compresskit.pruning.config import PruneConfig, Target
from compresskit.pruning.engine import prune
from compresskit.pruning.measure import layer_rows, measure
from compresskit.report import Accuracy
from compresskit.report import Latency as LatencyFigure
from compresskit.training import evaluate

pytestmark = pytest.mark.usefixtures("one_thread")


def test_accuracy_is_of_the_test_split(digits_net: ModelGraph, digits: Dataset) -> None:
    assert digits.test is not None
    with torch.no_grad():
        x = (torch.from_numpy(digits.test.x) / 255 - 0.3) / 0.4
        right = int((digits_net.module(x).argmax(1).numpy() == digits.test.y).sum())
    accuracy = measuring.test_accuracy(digits_net, digits, "cpu")
    assert (accuracy.value, accuracy.count, accuracy.metric) == (right / 100, 100, "top-1")
    assert (accuracy.low, accuracy.high) == evaluate(digits_net.module, digits.test, digits.normalization).interval
    assert measuring.test_accuracy(digits_net, replace(digits, test=None), "cpu").count == len(digits.validation)


def test_numbers_are_judged_by_their_error(line_net: ModelGraph, line: Dataset) -> None:
    assert line.test is not None
    with torch.no_grad():
        error = line_net.module(torch.from_numpy(line.test.x))[:, 0] - torch.from_numpy(line.test.y)
    accuracy = measuring.test_accuracy(line_net, line, "cpu")
    assert accuracy == Accuracy(pytest.approx(float(error.square().mean().sqrt())), None, None, 50, "rmse")


def test_costs_and_times_are_passed_on(digits_net: ModelGraph) -> None:
    cost = total(digits_net)
    figures = measure(digits_net, None, Latency(1.0, 2.0, 10, 1, 1), count_zeros=False)
    assert (figures.macs, figures.parameters, figures.bytes) == (cost.macs, cost.params, cost.bytes)
    assert (figures.peak_activation_bytes, figures.nonzero, figures.accuracy) == (cost.peak_activation_bytes, None, None)
    assert figures.latency == LatencyFigure(1.0, 2.0, threads=1, batch=1)


def test_zeros_are_counted_where_a_command_makes_them(digits_net: ModelGraph) -> None:
    sparse = prune(digits_net, None, PruneConfig(sparsity=0.5)).graph
    zeros = sum(int((parameter == 0).sum()) for parameter in sparse.module.parameters())
    figures = measure(sparse, None, None, count_zeros=True)
    assert figures.nonzero == figures.parameters - zeros < 0.6 * figures.parameters


def test_rows_are_the_layers_with_their_widths_and_macs(digits_net: ModelGraph) -> None:
    smaller = prune(digits_net, None, PruneConfig(target=Target("flops", 0.5))).graph
    rows = layer_rows(digits_net, smaller)
    for row in rows:
        for graph, width in ((digits_net, row.width_before), (smaller, row.width_after)):
            assert graph.module.get_parameter(f"{row.name}.weight").shape[0] == width
    assert sum(row.macs_before for row in rows) == total(digits_net).macs
    assert sum(row.macs_after for row in rows) == total(smaller).macs


def test_a_layer_that_became_two_is_one_row_with_its_rank(digits_net: ModelGraph) -> None:
    smaller = prune(digits_net, None, PruneConfig(target=Target("flops", 0.4), blocks=("lowrank",))).graph
    rows = layer_rows(digits_net, smaller)
    assert sum(row.macs_after for row in rows) == total(smaller).macs
    factorized = {row.name: row for row in rows if row.rank}
    assert factorized
    for name, row in factorized.items():
        assert smaller.module.get_parameter(f"{name}.inner.weight").shape[0] == row.rank
        assert row.width_before == row.width_after
