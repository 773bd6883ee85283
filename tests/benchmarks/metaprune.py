"""Pruning with a metanetwork, without one, after sparse training, and by `prune`: `python tests/benchmarks/metaprune.py WEIGHTS CIFAR10.npz`.

All methods train for the same number of epochs in all, in the same loop, at the same peak rate, on the same images; the test images are
touched once, at the end of each run. Rows are kept as they come in results/metaprune.json, drawn in results/metaprune.png, and a run
that is there is not repeated.

    metanetwork         rewritten, trained, cut, trained
    metanetwork-layer   the same, with the same fraction cut from every layer, as `prune` does
    without                        trained, cut, trained
    sparse                         trained with the sparsity loss of the group norms added (as DepGraph), cut, trained
    prune                                   cut, trained: `compresskit prune --criterion l2`, the same fraction from every layer
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from cifar import NORMALIZATION as CHENYAOFO
from cifar import SHAPE
from common import RESULTS, Row, collect
from safetensors.torch import load_file
from torch import Tensor, nn

from compresskit.cli.plot import Series, draw_curves
from compresskit.data import Dataset, load_data
from compresskit.metaprune.config import MetapruneConfig
from compresskit.metaprune.criterion import GroupSparsity
from compresskit.metaprune.shipped import read_metanetwork
from compresskit.metaprune.stages import metaprune
from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph, Normalization, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.zoo import build_for_state
from compresskit.progress import SILENT
from compresskit.pruning.config import PruneConfig, Target
from compresskit.pruning.engine import prune
from compresskit.pruning.groups import find_groups
from compresskit.pruning.recovery import Recovery
from compresskit.runtime import set_threads
from compresskit.training import TrainConfig, evaluate, train
from compresskit.training.objectives import supervised

AKAMASTER = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PRESSURE = 1e-4  # of the sparsity loss, beside the accuracy loss, in sparse training
CPU = torch.device("cpu")


Key = tuple[str, str, float, int]
"""Of a row: network, method, speed-up and seed."""


@dataclass(frozen=True)
class Task:
    """One run: the uncut network, the data, and what is asked."""

    graph: ModelGraph
    data: Dataset
    speedup: float
    epochs: tuple[float, float]
    seed: int
    metanetwork: Path | None

    def config(self, epochs: float, scope: Literal["global", "layer"] = "global") -> PruneConfig:
        """Cuts by the criterion that a metanetwork is trained for."""
        return PruneConfig(target=Target("flops", 1 / self.speedup), criterion="l2", scope=scope, epochs=epochs, seed=self.seed)


def with_metanetwork(task: Task, scope: Literal["global", "layer"] = "global") -> ModelGraph:
    metanetwork = read_metanetwork(None if task.metanetwork is None else str(task.metanetwork))
    return metaprune(task.graph, task.data, task.config(task.epochs[1], scope), MetapruneConfig(task.epochs[0]), metanetwork=metanetwork).pruned.graph


def without(task: Task) -> ModelGraph:
    graph = task.graph.with_module(copy.deepcopy(task.graph.module))
    Recovery(task.graph, task.data, task.config(task.epochs[0]), CPU, None, SILENT).train(graph, phase=0, phases=1)
    return prune(graph, task.data, task.config(task.epochs[1])).graph


def after_sparse_training(task: Task) -> ModelGraph:
    graph = task.graph.with_module(copy.deepcopy(task.graph.module))
    sparsity, plain = GroupSparsity(find_groups(graph).groups), supervised()

    def objective(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return plain(module, x, y) + PRESSURE * sparsity.loss(dict(module.named_parameters()))

    settings = TrainConfig(epochs=task.epochs[0], lr=0.02, augment="crop-flip", seed=task.seed)
    train(graph.module, task.data, settings, objective=objective)
    return prune(graph, task.data, task.config(task.epochs[1])).graph


def pruned(task: Task) -> ModelGraph:
    config = PruneConfig(target=Target("flops", 1 / task.speedup), criterion="l2", epochs=sum(task.epochs), seed=task.seed)
    return prune(task.graph, task.data, config).graph


METHODS: dict[str, Callable[[Task], ModelGraph]] = {
    "metanetwork": with_metanetwork,
    "metanetwork-layer": partial(with_metanetwork, scope="layer"),
    "without": without,
    "sparse": after_sparse_training,
    "prune": pruned,
}


def measure(method: str, task: Task) -> Row:
    """One row."""
    began = time.process_time()
    graph = METHODS[method](task)
    seconds = time.process_time() - began
    assert task.data.test is not None, "the archive holds no x_test"
    found = evaluate(graph.module, task.data.test, task.data.normalization)
    kept = total(graph).macs / total(task.graph).macs
    return {
        "network": task.graph.source,
        "method": method,
        "speedup": task.speedup,
        "seed": task.seed,
        "accuracy": round(found.accuracy or 0.0, 4),
        "reached": round(1 / kept, 3),
        "parameters": total(graph).params,
        "cpu_seconds": round(seconds, 1),
    }


def summary(rows: list[Row]) -> Mapping[str, Any]:
    """Mean and standard deviation over the seeds, best first within each network and speed-up."""
    table = []
    for key in sorted({(row["network"], row["speedup"], row["method"]) for row in rows}):
        accuracies = [row["accuracy"] for row in rows if (row["network"], row["speedup"], row["method"]) == key]
        sd = round(statistics.stdev(accuracies), 4) if len(accuracies) > 1 else None
        names = dict(zip(("network", "speedup", "method"), key, strict=True))
        table.append({**names, "runs": len(accuracies), "mean": round(statistics.mean(accuracies), 4), "sd": sd})
    return {"summary": sorted(table, key=lambda entry: (entry["network"], entry["speedup"], -entry["mean"]))}


def drawing(table: Sequence[dict[str, Any]], network: str) -> bytes:
    mine = [entry for entry in table if entry["network"] == network]
    methods = dict.fromkeys(entry["method"] for entry in mine)
    series = [Series(method, [(entry["speedup"], entry["mean"]) for entry in mine if entry["method"] == method]) for method in methods]
    return draw_curves(series, ".png", title=f"{network} on CIFAR-10, same epochs in all", x="speed-up (MACs)", y="test accuracy")


def lifted(weights: Path) -> ModelGraph:
    """A published network."""
    arch = next(name for name in ("resnet20", "resnet32", "resnet44", "resnet56") if name in weights.stem)
    module = build_for_state(arch, load_file(weights)).eval()
    return graph_from_module(module, (TensorSpec("input", (None, *SHAPE)),), source=weights.stem)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=float, nargs=2, default=[0.4, 0.6], help="before and after the cut")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--speedups", type=float, nargs="+", default=[2.9, 2.3])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--metanetwork", type=Path, help="in place of the one that ships")
    parser.add_argument("--output", type=Path, default=RESULTS / "metaprune.json")
    return parser.parse_args()


def main() -> None:
    options, threads = arguments(), set_threads(1)
    graph, normalization = lifted(options.weights), AKAMASTER if "akamaster" in options.weights.stem else CHENYAOFO
    data = load_data(options.data, input_shape=SHAPE, outputs=10, normalization=normalization)
    common = {"epochs": options.epochs, "training_images": len(data.train), "pressure": PRESSURE}
    jobs: list[tuple[Key, Callable[[], Row]]] = [
        (
            (graph.source, method, speedup, seed),
            partial(measure, method, Task(graph, data, speedup, tuple(options.epochs), seed, options.metanetwork)),
        )
        for seed in range(options.seeds)
        for speedup in options.speedups
        for method in options.methods
    ]
    rows = collect(options.output, threads, common, jobs, lambda row: (row["network"], row["method"], row["speedup"], row["seed"]), summary)
    options.output.with_suffix(".png").write_bytes(drawing(summary(rows)["summary"], graph.source))


if __name__ == "__main__":
    main()
