"""What the benchmarks of `metaprune` share: the ways that they compare, a row of each, and metanetworks that they train themselves.

All ways train for the same number of epochs in all, in the same loop, at the same peak rate, on the same images; the test images are touched
once, at the end of each run.

    metanetwork         rewritten, trained, cut, trained
    metanetwork-layer   the same, with the same fraction cut from every layer, as `prune` does
    without                        trained, cut, trained
    sparse                         trained with the sparsity loss of the group norms added (as DepGraph), cut, trained
    prune                                   cut, trained: `compresskit prune` by the same norm, the same fraction from every layer
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from cifar import SHAPE
from common import Row
from safetensors.torch import load_file
from torch import Tensor, nn

from compresskit.data import Dataset
from compresskit.metaprune.config import MetapruneConfig, MetatrainConfig
from compresskit.metaprune.criterion import GroupSparsity
from compresskit.metaprune.network import Metanetwork, MetanetworkConfig, save
from compresskit.metaprune.shipped import read_metanetwork
from compresskit.metaprune.stages import metaprune
from compresskit.metaprune.train import data_model, metatrain
from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph, Normalization, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.zoo import build_for_state
from compresskit.progress import SILENT
from compresskit.pruning.config import PruneConfig, Target
from compresskit.pruning.engine import prune
from compresskit.pruning.groups import find_groups
from compresskit.pruning.recovery import Recovery
from compresskit.pruning.result import PruneResult
from compresskit.training import TrainConfig, evaluate, train
from compresskit.training.objectives import supervised

AKAMASTER = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PRESSURE = 1e-4  # of the sparsity loss, beside the accuracy loss, in sparse training
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Task:
    """One run: the uncut network, the data, and what is asked.

    Attributes:
        goal: what is cut, and by which criterion; its epochs and its seed play no part.
        epochs: before and after the cut.
    """

    graph: ModelGraph
    data: Dataset
    goal: PruneConfig
    epochs: tuple[float, float]
    seed: int = 0
    metanetwork: Metanetwork | None = None

    def config(self, epochs: float, scope: Literal["global", "layer"] = "global") -> PruneConfig:
        return replace(self.goal, epochs=epochs, scope=scope, seed=self.seed)


def goal_of(speedup: float, criterion: str = "l2", normalize: str = "mean", round_to: int | None = None) -> PruneConfig:
    """MACs by a factor, cut by the norms that metanetworks are trained for; narrow networks want another `round_to` than the eights of `prune`."""
    return PruneConfig(target=Target("flops", 1 / speedup), criterion=criterion, normalize=normalize, round_to=round_to)


def with_metanetwork(task: Task, scope: Literal["global", "layer"] = "global") -> PruneResult:
    meta = MetapruneConfig(task.epochs[0])
    return metaprune(task.graph, task.data, task.config(task.epochs[1], scope), meta, metanetwork=task.metanetwork).pruned


def without(task: Task) -> PruneResult:
    graph = task.graph.with_module(copy.deepcopy(task.graph.module))
    Recovery(task.graph, task.data, task.config(task.epochs[0]), CPU, None, SILENT).train(graph, phase=0, phases=1)
    return prune(graph, task.data, task.config(task.epochs[1]))


def after_sparse_training(task: Task) -> PruneResult:
    graph = task.graph.with_module(copy.deepcopy(task.graph.module))
    sparsity, plain = GroupSparsity(find_groups(graph).groups), supervised()

    def objective(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return plain(module, x, y) + PRESSURE * sparsity.loss(dict(module.named_parameters()))

    settings = TrainConfig(epochs=task.epochs[0], lr=0.02, augment="crop-flip", seed=task.seed)
    train(graph.module, task.data, settings, objective=objective)
    return prune(graph, task.data, task.config(task.epochs[1]))


def pruned(task: Task) -> PruneResult:
    return prune(task.graph, task.data, task.config(sum(task.epochs), "layer"))


METHODS: dict[str, Callable[[Task], PruneResult]] = {
    "metanetwork": with_metanetwork,
    "metanetwork-layer": partial(with_metanetwork, scope="layer"),
    "without": without,
    "sparse": after_sparse_training,
    "prune": pruned,
}


def outcome(method: str, task: Task) -> Row:
    """The part of a row that is measured; `reached` is a speed-up, or the fraction of the weights that are zero."""
    began = time.process_time()
    result = METHODS[method](task)
    seconds = time.process_time() - began
    return {
        "accuracy": tested(result.graph, task.data),
        "reached": round(result.reached if task.goal.sparse else 1 / result.reached, 3),
        "parameters": total(result.graph).params,
        "cpu_seconds": round(seconds, 1),
    }


def tested(graph: ModelGraph, data: Dataset) -> float:
    """Accuracy on the test images."""
    assert data.test is not None, "the archive holds no x_test"
    return round(evaluate(graph.module, data.test, data.normalization).accuracy or 0.0, 4)


def averages(names: Sequence[str], rows: Sequence[Row]) -> Mapping[str, Any]:
    """Mean and standard deviation over the runs that agree in `names`, best first within those that agree in all but the last of them."""
    runs: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        runs.setdefault(tuple(row[name] for name in names), []).append(row["accuracy"])
    table = [{**dict(zip(names, key, strict=True)), **_spread(accuracies)} for key, accuracies in runs.items()]
    return {"summary": sorted(table, key=lambda entry: (*(entry[name] for name in names[:-1]), -entry["mean"]))}


def _spread(accuracies: Sequence[float]) -> dict[str, Any]:
    sd = round(statistics.stdev(accuracies), 4) if len(accuracies) > 1 else None
    return {"runs": len(accuracies), "mean": round(statistics.mean(accuracies), 4), "sd": sd}


def lifted(weights: Path) -> ModelGraph:
    """A published network for CIFAR-10."""
    arch = next(name for name in ("resnet20", "resnet32", "resnet44", "resnet56") if name in weights.stem)
    module = build_for_state(arch, load_file(weights)).eval()
    return graph_from_module(module, (TensorSpec("input", (None, *SHAPE)),), source=weights.stem)


def metatrained(path: Path, graphs: Sequence[ModelGraph], data: Dataset, config: MetatrainConfig, weight: float) -> Metanetwork:
    """The metanetwork in `path`, trained on `graphs` and kept there if it is not yet: as after the last epoch.

    Args:
        weight: of the sparsity loss of the first of `graphs` before training, times `pruner_reg`, which this decides: criteria of different
            sizes are so pressed alike.
    """
    if not path.exists():
        torch.manual_seed(config.seed)
        first = data_model(graphs[0], config)
        balanced = replace(config, pruner_reg=weight / float(first.sparsity.loss(first.tensors)))
        metanetwork = Metanetwork(MetanetworkConfig(config.layers, config.width, config.scale, config.scale))
        metatrain(metanetwork, graphs, data, balanced, keep=lambda _: None)
        path.write_bytes(save(metanetwork))
    return read_metanetwork(str(path))


def said(config: MetatrainConfig, *names: str) -> dict[str, Any]:
    """What a result is to say of `config`: all that its metanetwork was trained by, less `names`, which vary."""
    unused = ("pruner_reg", "tolerance", "tuning", *names)
    return {name: value for name, value in asdict(config).items() if name not in unused}
