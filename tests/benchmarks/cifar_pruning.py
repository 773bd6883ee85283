"""Pruning a trained network on CIFAR-10, ours against torch-pruning: `python tests/benchmarks/cifar_pruning.py MODEL CIFAR10.npz`.

MODEL holds the published weights of ResNet-20 (.safetensors), or is a checkpoint of any network, as `recommend_models.py` makes them.
Every method gets the same number of epochs in all (sparse training counts), the same loop, optimizer, peak learning rate, batches,
augmentation and precision, and the same split; the test images are touched once, at the end of each run. Rows are kept as they come, in
results/cifar_pruning.json, and a run that is there is not repeated, unless `--again` names its method. `--images` takes part of the
training images, for networks that are slow on a CPU.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch_pruning as tp
from cifar import lifted, load, part
from common import RESULTS, Row, collect
from safetensors.torch import load_file
from torch import nn
from torch_pruning_peer import bn_scale, group_norm, prune_to, regularized

from compresskit.data import Dataset
from compresskit.models.cost import node_costs, total
from compresskit.models.load import load_model
from compresskit.models.zoo import build_for_state
from compresskit.pruning.config import Method as PruneMethod
from compresskit.pruning.config import PruneConfig, Target
from compresskit.pruning.engine import prune
from compresskit.pruning.recovery import LEARNING_RATES
from compresskit.runtime import set_threads
from compresskit.training import TrainConfig, evaluate, train

ARCH = "resnet20"
SPARSE = 1 / 3  # of the epochs, where a method trains for sparsity before it cuts
TRAINING = TrainConfig(lr=LEARNING_RATES["sgd"], augment="crop-flip")  # what the engine's defaults come to on these data

UNIFORM: dict[str, Any] = {"criterion": "l1", "scope": "layer", "floor": 0.0}


Key = tuple[str, float, int]
"""Of a row: method, target and seed."""


@dataclass(frozen=True)
class Task:
    """One run: how to make the uncut network, the data, and what is asked."""

    network: Callable[[], nn.Module]
    data: Dataset
    target: float
    epochs: float
    seed: int


@dataclass(frozen=True)
class Method:
    """A way to prune: its settings beyond the common ones, for the record, and the function that makes the trained network."""

    settings: dict[str, Any]
    run: Callable[[Task], nn.Module]


def maker(path: Path) -> Callable[[], nn.Module]:
    """What makes the network of a file, anew each time, ready for evaluation."""
    if path.suffix == ".safetensors":
        state = load_file(path)
        return lambda: build_for_state(ARCH, state).eval()
    module = load_model(path).module
    return lambda: copy.deepcopy(module).eval()


def with_engine(task: Task, method: PruneMethod, criterion: str) -> nn.Module:
    """Our engine, at its defaults but for the method and the criterion."""
    config = PruneConfig(target=Target("flops", task.target), method=method, criterion=criterion, epochs=task.epochs, seed=task.seed)
    return prune(lifted(task.network(), ARCH), task.data, config).graph.module


def with_uniform_width(task: Task) -> nn.Module:
    """Cut the same fraction of every layer by the L1 norm, without looking at data, and train what is left."""
    config = PruneConfig(target=Target("flops", task.target), **UNIFORM)
    module = prune(lifted(task.network(), ARCH), None, config).graph.module
    train(module, task.data, replace(TRAINING, epochs=task.epochs, seed=task.seed))
    return module


def with_torch_pruning(task: Task, make: Callable[..., tp.pruner.BasePruner], *, sparse: bool, global_pruning: bool) -> nn.Module:
    """Train for sparsity where asked, cut to the goal, spend the rest of the epochs on fine-tuning."""
    module = task.network()
    pruner = make(module, lifted(module, ARCH), global_pruning=global_pruning, sparse=sparse)
    budget = replace(TRAINING, epochs=task.epochs, seed=task.seed)
    if sparse:
        # The regularizer takes the place of weight decay, as in their script.
        with regularized(pruner, module):
            train(module, task.data, replace(budget, epochs=task.epochs * SPARSE, weight_decay=0.0))
    macs = {module.get_submodule(cost.name): cost.macs for cost in node_costs(lifted(module, ARCH)) if cost.macs}
    prune_to(pruner, task.target * sum(macs.values()), macs)
    train(module, task.data, replace(budget, epochs=task.epochs * (1 - SPARSE if sparse else 1)))
    return module


def ours(method: PruneMethod, criterion: str) -> Method:
    config = asdict(PruneConfig(target=Target("flops", 0.5), method=method, criterion=criterion).settled(data=True))
    said = {name: value for name, value in config.items() if name not in ("target", "sparsity", "pattern", "epochs", "seed", "max_drop")}
    return Method({"by": "compresskit", **said}, partial(with_engine, method=method, criterion=criterion))


def peer(make: Callable[..., tp.pruner.BasePruner], *, sparse: bool, global_pruning: bool) -> Method:
    settings = {"by": "torch-pruning", "pruner": make.__name__, "global_pruning": global_pruning, "sparse_epochs": SPARSE if sparse else 0}
    return Method({**settings, "distill": 0}, partial(with_torch_pruning, make=make, sparse=sparse, global_pruning=global_pruning))


METHODS = {
    "tp-group-norm": peer(group_norm, sparse=False, global_pruning=True),
    "tp-group-norm-layer": peer(group_norm, sparse=False, global_pruning=False),
    "tp-group-norm-sparse": peer(group_norm, sparse=True, global_pruning=True),
    "tp-group-norm-sparse-layer": peer(group_norm, sparse=True, global_pruning=False),
    "tp-bn-scale": peer(bn_scale, sparse=True, global_pruning=True),
    "tp-bn-scale-layer": peer(bn_scale, sparse=True, global_pruning=False),
    "uniform": Method({"by": "compresskit", **UNIFORM, "distill": 0}, with_uniform_width),
    "ours": ours("classic", "auto"),
    "ours-reconstruction": ours("classic", "reconstruction"),
    "l1l2": ours("l1l2", "l2"),
}


def measure(name: str, task: Task) -> Row:
    """One row."""
    began = time.perf_counter()
    module = METHODS[name].run(task)
    seconds = time.perf_counter() - began
    assert task.data.test is not None, "the archive holds no x_test"
    found = evaluate(module, task.data.test, task.data.normalization)
    cost, whole = total(lifted(module, ARCH)), total(lifted(task.network(), ARCH))
    return {
        "method": name,
        "target": task.target,
        "seed": task.seed,
        "accuracy": round(found.accuracy or 0.0, 4),
        "kept_macs": round(cost.macs / whole.macs, 4),
        "macs": cost.macs,
        "parameters": cost.params,
        "seconds": round(seconds, 1),
    }


def summary(rows: list[Row]) -> Mapping[str, Any]:
    """What the methods are; mean and standard deviation over the seeds, best first within each target."""
    table: list[Row] = []
    for target, name in sorted({(row["target"], row["method"]) for row in rows}):
        runs = [row for row in rows if (row["target"], row["method"]) == (target, name)]
        accuracies = [row["accuracy"] for row in runs]
        entry = {"target": target, "method": name, "runs": len(runs), "mean": round(statistics.mean(accuracies), 4)}
        entry["sd"] = round(statistics.stdev(accuracies), 4) if len(runs) > 1 else None
        entry["kept_macs"] = round(statistics.mean(row["kept_macs"] for row in runs), 4)
        table.append({**entry, "seconds": round(statistics.mean(row["seconds"] for row in runs), 1)})
    methods = {name: method.settings for name, method in METHODS.items() if any(row["method"] == name for row in rows)}
    return {"methods": methods, "summary": sorted(table, key=lambda entry: (entry["target"], -entry["mean"]))}


def common_settings(options: argparse.Namespace, data: Dataset) -> dict[str, Any]:
    """What is the same for all methods."""
    shared = ("epochs", "seed", "checkpoint", "checkpoint_minutes", "resume")
    training = {name: value for name, value in asdict(TRAINING).items() if name not in shared}
    images = {"training_images": len(data.train), "test_images": len(data.test or ())}
    return {"weights": options.model.stem, "epochs": options.epochs, **images, **training}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=float, default=6.0)
    parser.add_argument("--images", type=int, help="train on the first so many; all by default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--targets", type=float, nargs="+", default=[0.33, 0.5])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--again", nargs="+", choices=METHODS, default=[], help="measure these anew")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS / "cifar_pruning.json")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    threads = set_threads(options.threads)
    data = part(load(options.data), train=options.images)
    network = maker(options.model)
    jobs: list[tuple[Key, Callable[[], Row]]] = [
        ((name, target, seed), partial(measure, name, Task(network, data, target, options.epochs, seed)))
        for target in options.targets
        for seed in range(options.seeds)
        for name in options.methods
    ]
    collect(
        options.output,
        threads,
        common_settings(options, data),
        jobs,
        lambda row: (row["method"], row["target"], row["seed"]),
        summary,
        peers=("torch-pruning",),
        again=lambda row: row["method"] in options.again,
    )


if __name__ == "__main__":
    main()
