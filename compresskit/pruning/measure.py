"""Measuring a model before and after, as the report shows it."""

from __future__ import annotations

from compresskit.data import Dataset
from compresskit.models.cost import node_costs, total
from compresskit.models.graph import ModelGraph
from compresskit.models.latency import Latency as Timing
from compresskit.pruning.cut import widths
from compresskit.pruning.factors import INNER, OUTER
from compresskit.report import Accuracy, LayerRow, Measure
from compresskit.report import Latency as LatencyFigure
from compresskit.runtime import set_threads
from compresskit.training import evaluate
from compresskit.training.evaluation import as_accuracy

SHARED_MACS = 10_000_000  # of a sample; below, a second thread gains nothing on an idle machine, and costs ten times the time on a busy one


def settle_threads(asked: int | None, graph: ModelGraph) -> int:
    """Settle how many threads compute: as asked, or one where the model is so small that several wait for each other longer than they compute."""
    if asked is not None:
        return set_threads(asked)
    return set_threads(1 if total(graph).macs < SHARED_MACS else 0)


def measure(graph: ModelGraph, accuracy: Accuracy | None, timing: Timing | None, *, count_zeros: bool) -> Measure:
    """All figures of one model."""
    cost = total(graph)
    return Measure(
        macs=cost.macs,
        parameters=cost.params,
        bytes=cost.bytes,
        peak_activation_bytes=cost.peak_activation_bytes,
        nonzero=sum(int(parameter.count_nonzero()) for parameter in graph.module.parameters()) if count_zeros else None,
        accuracy=accuracy,
        latency=None if timing is None else LatencyFigure(timing.p50_ms, timing.p90_ms, timing.threads, timing.batch),
    )


def test_accuracy(graph: ModelGraph, data: Dataset, device: str) -> Accuracy:
    """Accuracy on the test split, or on the validation split where the data have no other."""
    split = data.test or data.validation
    graph.module.to(device)
    try:
        return as_accuracy(evaluate(graph.module, split, data.normalization), len(split))
    finally:
        graph.module.to("cpu")


def layer_rows(before: ModelGraph, after: ModelGraph) -> tuple[LayerRow, ...]:
    """Width and MACs of every convolution and linear layer, before and after; of one that became two, the rank as well."""
    macs, new = {cost.name: cost.macs for cost in node_costs(after)}, widths(after.module)
    kinds = {cost.name: (cost.kind, cost.macs) for cost in node_costs(before)}
    rows = []
    for name, width in widths(before.module).items():
        inner, outer = (f"{name}.{part}" for part in (INNER, OUTER))
        if name in new:
            rows.append(LayerRow(name, kinds[name][0], width, new[name], kinds[name][1], macs[name]))
        elif outer in new:
            rows.append(LayerRow(name, kinds[name][0], width, new[outer], kinds[name][1], macs[inner] + macs[outer], new[inner]))
    return tuple(rows)
