"""How much hangs on the criterion: `python tests/benchmarks/metaprune_criteria.py FASHION --work FOLDER`.

Narrow ResNets on Fashion-MNIST: metanetworks learn from two of them, and a third one is cut. Two tables in results/metaprune_criteria.json:
metanetworks trained for the norms of table 2 of "Meta Pruning via Graph Metanetworks" and for two more, each used with the norm that it was
trained for; and the one that ships, which was trained for l2, used with four norms. Each beside no metanetwork with the same norm. What is
trained here is kept in FOLDER, and a row that is there is not measured again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from operator import itemgetter
from pathlib import Path

from common import Row, collect
from metaprune_common import Task, averages, goal_of, metatrained, outcome, said
from metaprune_fashion import ROUND_TO, load, narrow, options

from compresskit.data import Dataset
from compresskit.metaprune.config import MetatrainConfig
from compresskit.metaprune.network import Metanetwork
from compresskit.metaprune.shipped import read_metanetwork
from compresskit.runtime import set_threads

SPEEDUP = 2.9
EPOCHS = (1.0, 2.0)  # before and after the cut
DATA_MODELS = (1, 2)  # seeds of the networks to learn from; that of seed 0 is cut
WEIGHT = 5.0  # of the sparsity loss before meta-training, beside an accuracy loss
PAPER = MetatrainConfig(epochs=3, milestones=(2,), normalize="max", relative=False)

SETTINGS = {
    "max, alpha 4": PAPER,
    "max, alpha 0": replace(PAPER, alpha=0.0),
    "max, alpha 2": replace(PAPER, alpha=2.0),
    "max, alpha 6": replace(PAPER, alpha=6.0),
    "mean, alpha 4": replace(PAPER, normalize="mean"),
    "none, alpha 4": replace(PAPER, normalize="none"),
    "none, alpha 0": replace(PAPER, normalize="none", alpha=0.0),
    "mean, alpha 4, relative": replace(PAPER, normalize="mean", relative=True),
    "l1, mean, alpha 4, relative": replace(PAPER, criterion="l1", normalize="mean", relative=True),
}
"""By which the metanetworks are trained; of l2 norms unless said. The last but one is our default."""

SHIPPED, NONE = "shipped", "none"
CUTS = ("l2", "l1", "l2-first", "l1-first")
"""By which the metanetwork that ships is used, all with the mean as normalizer."""

Key = tuple[str, str, str, int]
"""Of a row: metanetwork, criterion and normalizer of the cut, and seed."""


def metanetwork_of(name: str, data: Dataset, work: Path) -> Metanetwork | None:
    """The one that a row names; None for the one without."""
    if name in (NONE, SHIPPED):
        return read_metanetwork(None) if name == SHIPPED else None
    graphs = [narrow(seed).read(work, data) for seed in DATA_MODELS]
    return metatrained(work / f"criteria_{name.replace(', ', '_').replace(' ', '')}.safetensors", graphs, data, SETTINGS[name], WEIGHT)


def measure(key: Key, data: Dataset, work: Path) -> Row:
    """One row."""
    name, criterion, normalize, seed = key
    goal = goal_of(SPEEDUP, criterion, normalize, round_to=ROUND_TO)
    task = Task(narrow(0).read(work, data), data, goal, EPOCHS, seed, metanetwork_of(name, data, work))
    found = outcome("without" if name == NONE else "metanetwork", task)
    return {"metanetwork": name, "criterion": criterion, "normalize": normalize, "seed": seed, **found}


def keys(seeds: int) -> Iterator[Key]:
    """All rows, the seeds one after the other; what no metanetwork gives is there once a criterion and normalizer."""
    for seed in range(seeds):
        trained = [(name, config.criterion, config.normalize, seed) for name, config in SETTINGS.items()]
        used = [(SHIPPED, criterion, "mean", seed) for criterion in CUTS]
        yield from dict.fromkeys((NONE, *row[1:]) for row in trained + used)
        yield from trained + used


def main() -> None:
    chosen, threads = options("metaprune_criteria", __doc__, 2), set_threads(1)
    data = load(chosen.fashion, chosen.work)
    jobs: list[tuple[Key, Callable[[], Row]]] = [(key, partial(measure, key, data, chosen.work)) for key in keys(chosen.seeds)]
    metatraining = {"networks": len(DATA_MODELS), "weight": WEIGHT, **said(PAPER, "criterion", "normalize", "alpha", "relative")}
    common = {"network": narrow(0).said(), "speedup": SPEEDUP, "round_to": ROUND_TO, "epochs": EPOCHS, "metatraining": metatraining}
    row_key = itemgetter("metanetwork", "criterion", "normalize", "seed")
    collect(chosen.output, threads, common, jobs, row_key, partial(averages, ("criterion", "normalize", "metanetwork")))


if __name__ == "__main__":
    main()
