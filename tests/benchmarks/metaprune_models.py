"""How many networks a metanetwork learns from: `python tests/benchmarks/metaprune_models.py FASHION --work FOLDER`.

1, 2 and 8 narrow ResNets on Fashion-MNIST that differ in the seed of their training, with as many updates in all; one that none of them saw is
cut. A seed of a row is that of the meta-training and of the pruning. What is trained here is kept in FOLDER, rows in results/metaprune_models.json,
and one that is there is not measured again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from operator import itemgetter
from pathlib import Path

from common import Row, collect
from metaprune_common import Task, averages, goal_of, metatrained, outcome, said
from metaprune_fashion import ROUND_TO, load, narrow, options

from compresskit.data import Dataset
from compresskit.metaprune.config import MetatrainConfig
from compresskit.runtime import set_threads

SPEEDUP = 2.9
EPOCHS = (1.0, 2.0)  # before and after the cut
COUNTS = (0, 1, 2, 8)  # 0: no metanetwork
WEIGHT = 5.0  # of the sparsity loss before meta-training, beside an accuracy loss
METATRAINING = MetatrainConfig(epochs=3, milestones=(2,))


def measure(count: int, seed: int, data: Dataset, work: Path) -> Row:
    """One row."""
    task = Task(narrow(0).read(work, data), data, goal_of(SPEEDUP, round_to=ROUND_TO), EPOCHS, seed)
    if count:
        graphs = [narrow(1 + number).read(work, data) for number in range(count)]
        config = replace(METATRAINING, seed=seed)
        task = replace(task, metanetwork=metatrained(work / f"models_{count}_{seed}.safetensors", graphs, data, config, WEIGHT))
    return {"models": count, "seed": seed, **outcome("metanetwork" if count else "without", task)}


def main() -> None:
    chosen, threads = options("metaprune_models", __doc__, 3), set_threads(1)
    data = load(chosen.fashion, chosen.work)
    jobs: list[tuple[tuple[int, int], Callable[[], Row]]] = [
        ((count, seed), partial(measure, count, seed, data, chosen.work)) for seed in range(chosen.seeds) for count in COUNTS
    ]
    metatraining = {"weight": WEIGHT, **said(METATRAINING, "seed")}
    common = {"network": narrow(0).said(), "speedup": SPEEDUP, "round_to": ROUND_TO, "epochs": EPOCHS, "metatraining": metatraining}
    collect(chosen.output, threads, common, jobs, itemgetter("models", "seed"), partial(averages, ("models",)))


if __name__ == "__main__":
    main()
