"""Zeros in place of cuts, with and without a metanetwork: `python tests/benchmarks/metaprune_zeros.py MODELS CIFAR10.npz --work FOLDER`.

Published networks of MODELS: one (akamaster's ResNet-20) to learn from, another (chenyaofo's) to be given zeros. Two metanetworks: the one that
ships, which learned to make group norms small, and one for single weights (criterion "weights", the L1 norm of the paper's section 4.3) that is
trained here and kept in FOLDER. Table 3 of "Meta Pruning via Graph Metanetworks"; rows are kept as they come in results/metaprune_zeros.json, and one
that is there is not measured again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from operator import itemgetter
from pathlib import Path

from cifar import NORMALIZATION, SHAPE, part
from common import RESULTS, Row, collect
from metaprune_common import AKAMASTER, Task, averages, lifted, metatrained, outcome, said

from compresskit.data import load_data
from compresskit.metaprune.config import MetatrainConfig
from compresskit.metaprune.network import Metanetwork
from compresskit.metaprune.shipped import read_metanetwork
from compresskit.pruning.config import PruneConfig
from compresskit.runtime import set_threads

LEARNED_FROM, PRUNED = "cifar10_resnet20_akamaster", "cifar10_resnet20_chenyaofo"
PATTERNS = {"unstructured": 0.85, "2:4": 0.5}
METATRAINING = MetatrainConfig(epochs=2, milestones=(1,), criterion="weights")
SAMPLES = 10_000  # that the metanetwork for weights is trained on
WEIGHT = 10.0  # of the sparsity loss before meta-training, beside an accuracy loss
EPOCHS = (0.2, 0.3)  # before the zeros, and with them

WAYS = {"without": "without", "for groups": "metanetwork", "for weights": "metanetwork", "prune": "prune"}
"""By which method each way goes; two have metanetworks of their own."""


def for_weights(models: Path, cifar: Path, work: Path) -> Metanetwork:
    data = part(load_data(cifar, input_shape=SHAPE, outputs=10, normalization=AKAMASTER), train=SAMPLES)
    return metatrained(work / "for_weights.safetensors", [lifted(models / f"{LEARNED_FROM}.safetensors")], data, METATRAINING, WEIGHT)


def measure(pattern: str, way: str, seed: int, options: argparse.Namespace) -> Row:
    """One row."""
    data = load_data(options.cifar, input_shape=SHAPE, outputs=10, normalization=NORMALIZATION)
    metanetwork = for_weights(options.models, options.cifar, options.work) if way == "for weights" else read_metanetwork(None)
    goal = PruneConfig(sparsity=PATTERNS[pattern], pattern=pattern)
    task = Task(lifted(options.models / f"{PRUNED}.safetensors"), data, goal, EPOCHS, seed, metanetwork)
    return {"pattern": pattern, "way": way, "seed": seed, **outcome(WAYS[way], task)}


def jobs(options: argparse.Namespace) -> Iterator[tuple[tuple[str, str, int], Callable[[], Row]]]:
    for seed in range(options.seeds):
        for pattern in PATTERNS:
            for way in WAYS:
                yield (pattern, way, seed), partial(measure, pattern, way, seed, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("cifar", type=Path)
    parser.add_argument("--work", type=Path, default=Path("."), help="folder for what is trained here")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "metaprune_zeros.json")
    options, threads = parser.parse_args(), set_threads(1)
    metatraining = {"network": LEARNED_FROM, "samples": SAMPLES, "weight": WEIGHT, **said(METATRAINING)}
    common = {"network": PRUNED, "epochs": EPOCHS, "metatraining": metatraining}
    collect(options.output, threads, common, jobs(options), itemgetter("pattern", "way", "seed"), partial(averages, ("pattern", "way")))


if __name__ == "__main__":
    main()
