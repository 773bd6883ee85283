"""The way from a network to a smaller one with a metanetwork ("Meta Pruning via Graph Metanetworks", equation 28).

graph ─► initial pruning, training ─► metanetwork ─► training ─► pruning to the target, training ─► smaller graph
              (if asked for)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from compresskit.data import Dataset
from compresskit.metaprune.config import MetapruneConfig
from compresskit.metaprune.curve import pruning_curve
from compresskit.metaprune.explain import compare_layers
from compresskit.metaprune.network import Metanetwork
from compresskit.metaprune.reports import CurvePoint, LayerStatistics, Stage
from compresskit.metaprune.rewriting import rewritten
from compresskit.metaprune.shipped import read_metanetwork
from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph
from compresskit.models.latency_table import Table as LatencyTable
from compresskit.progress import SILENT, Progress
from compresskit.pruning.config import PruneConfig, Target
from compresskit.pruning.engine import prune
from compresskit.pruning.goal import set_goal
from compresskit.pruning.recovery import Recovery
from compresskit.pruning.result import PruneResult
from compresskit.report import Accuracy
from compresskit.training.evaluation import as_accuracy, evaluate
from compresskit.training.tuning import Checkpointing


@dataclass(frozen=True)
class MetapruneResult:
    """What came of it.

    Attributes:
        pruned: the last step's result; what was asked for and reached is of the network that came in.
        steps: each with its accuracy, on the validation split.
        curve_before, curve_after: of the network before the metanetwork, and after it and the training.
        statistics: of both.
        unconverted: parameters that the metanetwork could not see, and why.
    """

    pruned: PruneResult
    steps: tuple[Stage, ...]
    curve_before: tuple[CurvePoint, ...] = ()
    curve_after: tuple[CurvePoint, ...] = ()
    statistics: tuple[LayerStatistics, ...] = ()
    unconverted: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Way:
    """What all steps have in common.

    Attributes:
        config: of pruning, and of how to train in every step.
        device: to train on.
    """

    data: Dataset
    config: PruneConfig
    meta: MetapruneConfig
    device: torch.device
    table: LatencyTable | None = None
    checkpointing: Checkpointing | None = None
    progress: Progress = SILENT

    def stage(self, name: str, epochs: float, graph: ModelGraph) -> Stage:
        return Stage(name, epochs, total(graph).macs, self._accuracy(graph))

    def initially_pruned(self, graph: ModelGraph) -> ModelGraph:
        """`graph` with little removed, and trained: hard to prune, which is where a metanetwork helps."""
        target = Target("flops", 1 / self.meta.initial)
        config = replace(self.config, target=target, sparsity=None, pattern=None, steps=1, epochs=self.meta.initial_epochs)
        return prune(graph, self.data, config, device=self.device, checkpointing=self._kept(2), progress=self.progress).graph

    def recovery(self, graph: ModelGraph) -> Recovery:
        """Training after `graph` was rewritten, with `graph` as teacher where one is asked for."""
        config = replace(self.config, epochs=self.meta.epochs)
        return Recovery(graph, self.data, config, self.device, self._kept(1), self.progress)

    def pruned(self, graph: ModelGraph, whole: ModelGraph) -> PruneResult:
        """`graph` pruned to the target, which is of `whole`."""
        config, share = self.config, 1.0
        if config.target is not None and self.meta.initial > 1:
            goal = set_goal(whole, config.target, self.table, self.progress)
            share = set_goal(graph, replace(config.target, value=goal.limit, absolute=True), self.table).whole / goal.whole
            config = replace(config, target=replace(config.target, value=goal.limit, absolute=True))
        result = prune(graph, self.data, config, device=self.device, table=self.table, checkpointing=self.checkpointing, progress=self.progress)
        return replace(result, reached=result.reached * share, asked=result.asked * share)

    def curve(self, graph: ModelGraph) -> tuple[CurvePoint, ...]:
        if not self.meta.curve:
            return ()
        return pruning_curve(graph, self.data, self.config, device=self.device, progress=self.progress)

    def _accuracy(self, graph: ModelGraph) -> Accuracy:
        graph.module.to(self.device)
        try:
            return as_accuracy(evaluate(graph.module, self.data.validation, self.data.normalization), len(self.data.validation))
        finally:
            graph.module.to("cpu")

    def _kept(self, before: int) -> Checkpointing | None:
        """Where a step that comes `before` pruning keeps its state; pruning has phases of its own."""
        kept = self.checkpointing
        return replace(kept, path=kept.phase(self.config.steps + before)) if kept else None


def metaprune(
    graph: ModelGraph,
    data: Dataset,
    config: PruneConfig,
    meta: MetapruneConfig | None = None,
    *,
    metanetwork: Metanetwork | None = None,
    device: torch.device | str = "cpu",
    table: LatencyTable | None = None,
    checkpointing: Checkpointing | None = None,
    progress: Progress = SILENT,
) -> MetapruneResult:
    """Let a metanetwork rewrite `graph`, which stays as it is, train it, prune it to the target of `config`, and train what is left.

    Args:
        metanetwork: None: the one that ships.
        table: for a latency as target, as for `prune`.

    Raises:
        TargetError: nothing at all can be cut, or not enough for a latency.
        UsageError: settings that contradict each other.
        GuardError: training diverged.
        InputError: the data do not fit the model, its batch is baked in, or memory runs out.
    """
    meta = meta or MetapruneConfig()
    # Settled as without data: the norms that metanetworks are trained for, in the place of the criterion that prune would choose.
    way = _Way(data, config.settled(), meta, torch.device(device), table, checkpointing, progress)
    steps = [way.stage("original", 0.0, graph)]
    start = graph
    if meta.initial > 1:
        start = way.initially_pruned(graph)
        steps.append(way.stage("initial pruning", meta.initial_epochs, start))
    progress.stage("metanetwork")
    easier, unconverted = rewritten(start, metanetwork or read_metanetwork(None))
    recovery = way.recovery(start)
    recovery.renew_norms(easier)
    steps.append(way.stage("metanetwork", 0.0, easier))
    if meta.epochs > 0:
        recovery.train(easier, phase=0, phases=1)
        steps.append(way.stage("fine-tuning", meta.epochs, easier))
    curves = way.curve(start), way.curve(easier)
    statistics = compare_layers(start, easier, recovery.calibration()) if meta.explain else ()
    result = way.pruned(easier, graph)
    steps.append(way.stage("pruning", config.epochs, result.graph))
    return MetapruneResult(result, tuple(steps), *curves, statistics, unconverted)
