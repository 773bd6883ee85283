"""Measuring: tables of operators, and whole graphs, in ONNX Runtime on this machine."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from compresskit.models.graph import ModelGraph, random_inputs
from compresskit.models.latency import Latency, clock, compare, measure, take_turns
from compresskit.models.latency_operators import Operator, Use, batch_of, factors_of, fingerprint, uses
from compresskit.models.latency_probe import Probe, idle, probe
from compresskit.models.latency_surface import axis
from compresskit.models.latency_table import SHORTEST, Entry, Table, Whole
from compresskit.models.onnx_out import export_onnx
from compresskit.models.sessions import open_session
from compresskit.progress import SILENT, Progress
from compresskit.runtime import versions

Timer = Callable[[Sequence[Probe], int, float], np.ndarray]
"""Milliseconds that each model takes, (models,), with so many threads, timed for so many seconds each."""
Axes = tuple[tuple[int, ...], tuple[int, ...]]

_PARTY = 32  # models that take turns
_SECONDS = 0.02  # for each of them
_WHOLE_SECONDS = 0.5


def blank_table(*, threads: int = 1, batch: int = 1) -> Table:
    """A table of this machine and runtime that holds nothing yet."""
    return Table(machine_name(), versions()["onnxruntime"], threads, batch, (), {})


def measure_table(graph: ModelGraph, table: Table, *, factors: bool = False, timer: Timer | None = None, progress: Progress = SILENT) -> Table:
    """`table` (a blank one, or one of this machine) with times of every operator of `graph` and of `graph` itself; what it has stays.

    Points of all operators are shuffled and take turns in small parties, so that a machine that slows down for a while blurs a table
    rather than bends it. Each is the median of its runs, less that of a model that does nothing: a graph pays that once, whatever its
    operators. Its own time is end to end, so that what a table predicts for it compares with `measured_latency`.

    Args:
        factors: also measure what the layers would become as products of two.

    Raises:
        InputError: a node does not fit its inputs; or the graph cannot be exported; or its operators take no time that a clock tells.
    """
    timer = timer or time_models
    calls = uses(graph, table.batch)
    every = [*calls, *factors_of(calls)] if factors else calls
    measured = _entries(_axes(table, every), table.threads, timer, progress)
    kept = tuple(entry for entry in table.entries if entry.operator not in {new.operator for new in measured})
    table = replace(table, entries=kept + measured)
    if calls and (key := fingerprint(calls)) not in table.models:
        progress.stage("time the model")
        (took,) = timer([whole_model(graph, table.batch)], table.threads, _WHOLE_SECONDS)
        whole = Whole(max(float(took), SHORTEST), max(table.summed(calls), SHORTEST))
        table = replace(table, models={**table.models, key: whole})
    table.check(calls)
    return table


def measured_latency(graph: ModelGraph, *, threads: int = 1, batch: int = 1, seconds: float = 1.0) -> Latency:
    """End-to-end latency of `graph` as it is exported.

    Raises:
        InputError: the graph cannot be exported.
    """
    model = whole_model(graph, batch)
    return measure(model.model, model.feeds, threads=threads, seconds=seconds)


def measured_share(graph: ModelGraph, whole: ModelGraph, *, threads: int = 1, batch: int = 1, seconds: float = 1.0) -> float:
    """The median latency of `graph` over that of `whole`. Their runs take turns: a busy machine slows both alike.

    Raises:
        InputError: one of them cannot be exported.
    """
    one, other = (whole_model(model, batch) for model in (whole, graph))
    before, after = compare(one.model, other.model, one.feeds, threads=threads, seconds=seconds)
    return after.p50_ms / before.p50_ms


def whole_model(graph: ModelGraph, batch: int) -> Probe:
    """`graph` as ONNX Runtime is given it, with random inputs."""
    inputs = random_inputs(graph.inputs, batch_of(graph, batch), free_batch=False)
    feeds = {spec.name: value.numpy() for spec, value in zip(graph.inputs, inputs, strict=True)}
    return Probe(export_onnx(graph).SerializeToString(), feeds)


def time_models(probes: Sequence[Probe], threads: int, seconds: float) -> np.ndarray:
    """Medians of the runs of `probes`, which take turns in this process."""
    calls = [partial(open_session(item.model, threads=threads).run, None, dict(item.feeds)) for item in probes]
    return np.median(take_turns(calls, clock(threads), seconds=seconds), axis=0) * 1e3


def machine_name() -> str:
    """The system and its processor, as the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{platform.system()} {platform.machine()} {model}".strip()


def _axes(table: Table, calls: Sequence[Use]) -> dict[Operator, Axes]:
    """The widths to measure for each operator that `table` lacks: up to the largest of this model, and of those before."""
    axes: dict[Operator, Axes] = {}
    for operator in dict.fromkeys(call.operator for call in table.lacks(calls)):
        old = table.by_operator.get(operator)
        alike = [call for call in calls if call.operator == operator]
        axes[operator] = (
            axis({*(call.inputs for call in alike), *(old.inputs[-1:] if old else ())}),
            axis({*(call.outputs for call in alike), *(old.outputs[-1:] if old else ())}),
        )
    return axes


def _entries(axes: dict[Operator, Axes], threads: int, timer: Timer, progress: Progress) -> tuple[Entry, ...]:
    points = [(operator, *widths) for operator, sides in axes.items() for widths in itertools.product(*sides)]
    if not points:
        return ()
    progress.stage("time the operators", len(points))
    order = np.random.default_rng(0).permutation(len(points))
    ms = np.zeros(len(points))
    for start in range(0, len(points), _PARTY):
        party = order[start : start + _PARTY]
        *took, nothing = timer([*(probe(*points[index]) for index in party), idle()], threads, _SECONDS)
        ms[party] = np.maximum(np.array(took) - nothing, 0.0)
        progress.advance(len(party))
    values = iter(ms.tolist())
    return tuple(Entry(operator, *sides, tuple(tuple(itertools.islice(values, len(sides[1]))) for _ in sides[0])) for operator, sides in axes.items())
