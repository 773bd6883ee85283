"""How easy a network is to prune: its accuracy as ever more of it is cut, without training."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from compresskit.data import Dataset
from compresskit.metaprune.reports import CurvePoint
from compresskit.models.graph import ModelGraph
from compresskit.progress import SILENT, Progress
from compresskit.pruning.config import PruneConfig
from compresskit.pruning.cut import cut
from compresskit.pruning.footprint import footprint
from compresskit.pruning.groups import find_groups
from compresskit.pruning.recovery import Recovery
from compresskit.pruning.scoring import by_criterion
from compresskit.pruning.target import plan
from compresskit.training.evaluation import as_accuracy, evaluate

SPEEDUPS = tuple(2 ** (step / 5) for step in range(11))
"""From 1 to 4, in equal ratios."""


def pruning_curve(
    graph: ModelGraph,
    data: Dataset,
    config: PruneConfig,
    *,
    speedups: Sequence[float] = SPEEDUPS,
    device: torch.device | str = "cpu",
    progress: Progress = SILENT,
) -> tuple[CurvePoint, ...]:
    """Accuracy on the validation split of `graph`, cut to each of the rising `speedups` by the criterion of `config`.

    It ends early where the floor of `config` lets no more be cut. Norms keep their statistics, as in the paper ("Meta Pruning via Graph
    Metanetworks", appendix C.1).

    Raises:
        TargetError: nothing at all can be cut.
    """
    config = config.settled()
    recovery = Recovery(graph, data, config, torch.device(device), None, progress)
    prunable = find_groups(graph)
    cost = footprint(prunable.graph, prunable.coupling, "flops")
    scores = by_criterion(config, recovery)(prunable, cost, cost.whole).scores
    progress.stage("curve", total=len(speedups))
    points = []
    for speedup in speedups:
        smaller, reached = prunable.graph, cost.whole
        if speedup > 1:
            chosen = plan(prunable, scores, cost, cost.whole / speedup, scope=config.scope or "global", floor=config.floor or 0.0)
            if not chosen.met and chosen.reached > cost.whole / speedup:
                break
            smaller, reached = cut(prunable.graph, prunable.coupling, chosen.keep), chosen.reached
        points.append(CurvePoint(cost.whole / reached, validated(smaller, data, device)))
        progress.advance(accuracy=points[-1].accuracy)
    return tuple(points)


def validated(graph: ModelGraph, data: Dataset, device: torch.device | str = "cpu") -> float:
    """The figure of `graph` on the validation split: accuracy, or an error for numbers."""
    graph.module.to(device)
    try:
        return as_accuracy(evaluate(graph.module, data.validation, data.normalization), len(data.validation)).value
    finally:
        graph.module.to("cpu")
