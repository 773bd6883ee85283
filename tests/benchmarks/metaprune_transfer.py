"""The metanetwork that ships on networks and data that it never saw: `python tests/benchmarks/metaprune_transfer.py MODELS VGG19 CIFAR10 FASHION`.

It learned from a ResNet-20 for CIFAR-10 alone (results/metanetwork.json). MODELS is the folder of published networks, VGG19 a checkpoint as
`recommend_models.py` makes it, FASHION the subset of 10,000 images. Tables 4 and 5 of "Meta Pruning via Graph Metanetworks"; rows are kept as
they come in results/metaprune_transfer.json, and one that is there is not measured again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path

from cifar import NORMALIZATION, SHAPE
from common import RESULTS, Row, collect
from metaprune_common import AKAMASTER, METHODS, Task, averages, goal_of, lifted, outcome, tested
from metaprune_fashion import Trained
from metaprune_fashion import load as load_fashion

from compresskit.data import Dataset, load_data
from compresskit.models.graph import ModelGraph, Normalization
from compresskit.models.load import load_model
from compresskit.runtime import set_threads
from compresskit.training import TrainConfig

SPEEDUP = 2.9
ON_FASHION = Trained("resnet20", {"width": 0.5, "shortcut": "B"}, TrainConfig(epochs=10, batch_size=64, lr=0.1, augment="crop-flip"))


@dataclass(frozen=True)
class Case:
    """A network, its data, and the epochs before and after the cut."""

    graph: ModelGraph
    data: Dataset
    epochs: tuple[float, float]


def published(options: argparse.Namespace, name: str) -> Case:
    return Case(lifted(options.models / f"cifar10_{name}_akamaster.safetensors"), cifar(options.cifar, AKAMASTER), (0.2, 0.3))


def vgg19(options: argparse.Namespace) -> Case:
    graph = load_model(options.vgg19)
    return Case(graph, cifar(options.cifar, graph.normalization or NORMALIZATION), (0.4, 0.6))


def fashion(options: argparse.Namespace) -> Case:
    data = load_fashion(options.fashion, options.work)
    return Case(ON_FASHION.read(options.work, data), data, (1.0, 1.5))


def cifar(path: Path, normalization: Normalization) -> Dataset:
    return load_data(path, input_shape=SHAPE, outputs=10, normalization=normalization)


CASES: dict[str, Callable[[argparse.Namespace], Case]] = {
    "resnet20 on Fashion-MNIST": fashion,
    "vgg19": vgg19,
    "resnet32": partial(published, name="resnet32"),
    "resnet44": partial(published, name="resnet44"),
}


def measure(name: str, method: str, seed: int, options: argparse.Namespace) -> Row:
    """One row."""
    case = CASES[name](options)
    task = Task(case.graph, case.data, goal_of(SPEEDUP), case.epochs, seed)
    before = {"epochs": case.epochs, "before": tested(case.graph, case.data)}
    return {"network": name, "method": method, "seed": seed, **before, **outcome(method, task)}


def jobs(options: argparse.Namespace) -> Iterator[tuple[tuple[str, str, int], Callable[[], Row]]]:
    for seed in range(options.seeds):
        for name in options.cases:
            for method in options.methods:
                yield (name, method, seed), partial(measure, name, method, seed, options)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("models", "vgg19", "cifar", "fashion"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--work", type=Path, default=Path("."), help="folder for what is trained here")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["metanetwork", "without", "prune"])
    parser.add_argument("--output", type=Path, default=RESULTS / "metaprune_transfer.json")
    return parser.parse_args()


def main() -> None:
    options, threads = arguments(), set_threads(1)
    common = {"speedup": SPEEDUP, "learned_from": "cifar10_resnet20_akamaster", "on_fashion": ON_FASHION.said()}
    key = itemgetter("network", "method", "seed")
    collect(options.output, threads, common, jobs(options), key, partial(averages, ("network", "method")))


if __name__ == "__main__":
    main()
