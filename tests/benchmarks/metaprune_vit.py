"""A small vision transformer through the same code: `python tests/benchmarks/metaprune_vit.py FASHION --work FOLDER`.

As in appendix G of "Meta Pruning via Graph Metanetworks" the metanetwork learns from the very network that is cut. Beside it the one that
ships, which saw convolutions only, and none. What is trained here is kept in FOLDER, rows in results/metaprune_vit.json, and one that is there
is not measured again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Literal

from common import Row, collect
from metaprune_common import Task, averages, goal_of, metatrained, outcome, said, tested
from metaprune_fashion import ROUND_TO, Trained, load, options

from compresskit.data import Dataset
from compresskit.metaprune.config import MetatrainConfig
from compresskit.metaprune.network import Metanetwork
from compresskit.metaprune.shipped import read_metanetwork
from compresskit.runtime import set_threads
from compresskit.training import TrainConfig

Optimizer = Literal["sgd", "adamw"]

SPEEDUP = 1.7  # the paper's
EPOCHS = (1.0, 2.0)  # before and after the cut
OPTIMIZERS: tuple[Optimizer, ...] = ("sgd", "adamw")  # of the training before and after the cut: what `prune` does, and what made the network
WEIGHT = 5.0  # of the sparsity loss before meta-training, beside an accuracy loss
METATRAINING = MetatrainConfig(epochs=2, milestones=(1,))
NETWORK = Trained("vit", {"width": 1 / 8, "size": 28}, TrainConfig(epochs=10, batch_size=64, optimizer="adamw", lr=1e-3, warmup=0.1))
WAYS = {"own": "metanetwork", "shipped": "metanetwork", "without": "without", "prune": "prune"}
"""By which method each goes; two have metanetworks of their own."""


def measure(optimizer: Optimizer, way: str, seed: int, data: Dataset, work: Path) -> Row:
    """One row."""
    graph = NETWORK.read(work, data)
    goal = replace(goal_of(SPEEDUP, round_to=ROUND_TO), optimizer=optimizer)
    task = Task(graph, data, goal, EPOCHS, seed, _metanetwork(way, data, work))
    return {"optimizer": optimizer, "way": way, "seed": seed, "before": tested(graph, data), **outcome(WAYS[way], task)}


def _metanetwork(way: str, data: Dataset, work: Path) -> Metanetwork | None:
    if way == "own":
        return metatrained(work / "vit.safetensors", [NETWORK.read(work, data)], data, METATRAINING, WEIGHT)
    return read_metanetwork(None) if way == "shipped" else None


def main() -> None:
    chosen, threads = options("metaprune_vit", __doc__, 2), set_threads(1)
    data = load(chosen.fashion, chosen.work)
    jobs: list[tuple[tuple[str, str, int], Callable[[], Row]]] = [
        ((optimizer, way, seed), partial(measure, optimizer, way, seed, data, chosen.work))
        for seed in range(chosen.seeds)
        for optimizer in OPTIMIZERS
        for way in WAYS
    ]
    common = {
        "network": NETWORK.said(),
        "speedup": SPEEDUP,
        "round_to": ROUND_TO,
        "epochs": EPOCHS,
        "metatraining": {"weight": WEIGHT, **said(METATRAINING)},
    }
    collect(chosen.output, threads, common, jobs, itemgetter("optimizer", "way", "seed"), partial(averages, ("optimizer", "way")))


if __name__ == "__main__":
    main()
