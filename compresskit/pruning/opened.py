"""A model and its data on the way from file to files: read once, measured once, pruned as often as asked.

request ──► open_model ──► Opened ──► prune (engine) ──► Opened.finish ──► Finished: in ONNX form, checked, measured beside the whole model
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compresskit.data import Dataset, interface, read_data
from compresskit.errors import UsageError
from compresskit.models.graph import ModelGraph, random_inputs
from compresskit.models.info import model_info
from compresskit.models.latency import compare, preferred_multiple
from compresskit.models.latency_file import cached_table, is_local, table_for
from compresskit.models.latency_operators import uses
from compresskit.models.latency_table import Table as LatencyTable
from compresskit.models.load import load_model
from compresskit.models.onnx_out import export_onnx
from compresskit.models.parity import check_parity
from compresskit.progress import SILENT, Progress
from compresskit.pruning.config import PruneConfig
from compresskit.pruning.measure import measure, settle_threads, test_accuracy
from compresskit.pruning.recovery import Recovery
from compresskit.pruning.request import PruneRequest
from compresskit.pruning.scoring import check_method
from compresskit.report import Accuracy, Measure, ModelInfo, Parity, Training
from compresskit.runtime import Clock, seed_everything, select_device, set_threads
from compresskit.training.tuning import checkpointing


@dataclass(frozen=True)
class Finished:
    """A model that was pruned, as it goes out.

    Attributes:
        graph: with the normalization of the data.
        onnx: the same in ONNX form.
        parity: of the two.
        before, after: the whole model and this one, timed in turns.
    """

    graph: ModelGraph
    onnx: bytes
    parity: Parity
    before: Measure
    after: Measure


@dataclass(frozen=True)
class Opened:
    """A model to prune, with all that pruning it needs.

    Attributes:
        graph: with the normalization of the data, where there are any.
        onnx: the same in ONNX form.
        config: with everything decided that was left to us.
        device: to train on.
        threads: to compute with.
        accuracy: of the whole model; None without data.
        table: where the target is a latency.
        warnings: what the user should know about the table.
        clock: of all stages.
    """

    graph: ModelGraph
    onnx: bytes
    data: Dataset | None
    config: PruneConfig
    device: str
    threads: int
    accuracy: Accuracy | None
    table: LatencyTable | None
    warnings: tuple[str, ...]
    clock: Clock

    def finish(self, graph: ModelGraph, progress: Progress = SILENT) -> Finished:
        """Measure, export, check and time `graph`, which was pruned.

        Raises:
            GuardError: what was exported computes something else.
        """
        graph = replace(graph, normalization=self.graph.normalization)
        with self.clock("measure"):
            progress.stage("measure")
            accuracy = _accuracy(graph, self.data, self.device)
        with self.clock("export"):
            progress.stage("export")
            exported = export_onnx(graph).SerializeToString()
            parity = check_parity(graph, exported)
        with self.clock("time"):
            progress.stage("time")
            timings = compare(self.onnx, exported, _feeds(self.graph), threads=self.threads)
        with self.clock("measure"):
            trainings = [self._training(model) for model in (self.graph, graph)]
        before, after = (
            replace(measure(model, found, timing, count_zeros=self.config.sparse), training=training)
            for model, found, timing, training in zip((self.graph, graph), (self.accuracy, accuracy), timings, trainings, strict=True)
        )
        return Finished(graph, exported, Parity(parity.max_abs_error, parity.samples), before, after)

    def measured(self) -> Measure:
        """The whole model, but for its latency, which is only measured in turns with another's."""
        return measure(self.graph, self.accuracy, None, count_zeros=self.config.sparse)

    def _training(self, graph: ModelGraph) -> Training | None:
        """What training `graph` costs, where it is trained at full length: from its initialization on."""
        if not self.config.init or self.data is None:
            return None
        return Recovery(self.graph, self.data, self.config, torch.device(self.device), None, SILENT).cost(graph)

    def info(self) -> ModelInfo:
        """The model, for a report."""
        return model_info(self.graph.source, self.graph.arch, self.graph.inputs)

    def settings(self) -> dict[str, Any]:
        """All settings but target and seed, and the normalization in force, as JSON gives them back."""
        said = {name: value for name, value in asdict(self.config).items() if name not in ("target", "seed")}
        settings = {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}
        if self.data is not None:
            settings["normalization"] = self.data.normalization_said()
        return settings


def open_model(request: PruneRequest, progress: Progress = SILENT) -> Opened:
    """Read and measure what `request` names, and settle what it leaves open.

    Raises:
        CompresskitError: of the kind that the exit codes describe.
    """
    check_method(request.config.settled(data=request.data is not None), data=request.data is not None)
    clock = Clock()
    set_threads(request.threads or 0)
    device = str(select_device(request.device))
    seed_everything(request.config.seed)
    with clock("read"):
        progress.stage("read")
        graph = load_model(request.model, arch=request.arch, input_shape=request.input_shape, trust=request.trust, max_bytes=request.max_bytes)
        data = None if request.data is None else read_data(request, interface(graph), seed=request.config.seed, progress=progress)
    if request.config.init and graph.source != graph.arch:
        raise UsageError(f"--init prunes a network before training, and {graph.source} holds weights: drop --init, or name an architecture")
    threads = settle_threads(request.threads, graph)
    table, warnings = _latency_table(request, graph, threads, clock, progress)
    config = _settled(request, graph, table, threads)
    graph = replace(graph, normalization=data.normalization if data else graph.normalization)
    with clock("measure"):
        accuracy = _accuracy(graph, data, device)
    with clock("export"):
        exported = export_onnx(graph).SerializeToString()
    return Opened(graph, exported, data, config, device, threads, accuracy, table, warnings, clock)


def _latency_table(
    request: PruneRequest, graph: ModelGraph, threads: int, clock: Clock, progress: Progress
) -> tuple[LatencyTable | None, tuple[str, ...]]:
    """The table for a latency as target: from a file, or this machine's; and what a user should know about it."""
    target = request.config.target
    if target is None or target.quantity != "latency":
        return None, ()
    factors = "lowrank" in request.config.blocks
    if request.table is None:
        with clock("table"):
            return cached_table(graph, factors=factors, threads=threads, progress=progress), ()
    table, warnings = table_for(Path(request.table), graph, factors=factors)
    if is_local(table):
        return table, warnings
    return table, (*warnings, f"latencies are predicted for {table.machine} from {request.table}: measure the model there")


def _settled(request: PruneRequest, graph: ModelGraph, table: LatencyTable | None, threads: int) -> PruneConfig:
    """The settings with what was left to us decided, as before where a training goes on: a second measurement may find another multiple."""
    config = request.config.settled(data=request.data is not None)
    if config.round_to == 0:
        kept = checkpointing(request)
        multiple = kept.settled("round_to") if kept else None
        if multiple is None:
            multiple = table.multiple(uses(graph, table.batch)) if table else preferred_multiple(threads=threads)
        config = replace(config, round_to=multiple)
    return replace(config, epochs=0.0) if request.dry_run else config


def _accuracy(graph: ModelGraph, data: Dataset | None, device: str) -> Accuracy | None:
    return None if data is None else test_accuracy(graph, data, device)


def _feeds(graph: ModelGraph) -> dict[str, np.ndarray]:
    """One sample, or the batch that the file fixes."""
    inputs = random_inputs(graph.inputs, 1, free_batch=False)
    return {spec.name: value.numpy() for spec, value in zip(graph.inputs, inputs, strict=True)}
