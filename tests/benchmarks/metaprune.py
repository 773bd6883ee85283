"""Pruning with a metanetwork, without one, after sparse training, and by `prune`: `python tests/benchmarks/metaprune.py WEIGHTS CIFAR10.npz`.

The ways are those of `metaprune_common`. Rows are kept as they come in results/metaprune.json, drawn in results/metaprune.png, and a run that is
there is not repeated.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from cifar import NORMALIZATION as CHENYAOFO
from cifar import SHAPE
from common import RESULTS, Row, collect
from metaprune_common import AKAMASTER, METHODS, PRESSURE, Task, averages, goal_of, lifted, outcome

from compresskit.cli.plot import Series, draw_curves
from compresskit.data import load_data
from compresskit.metaprune.shipped import read_metanetwork
from compresskit.runtime import set_threads

Key = tuple[str, str, float, int]
"""Of a row: network, method, speed-up and seed."""

NAMES = ("network", "speedup", "method")
"""What rows are averaged by."""


def measure(method: str, speedup: float, task: Task) -> Row:
    """One row."""
    return {"network": task.graph.source, "method": method, "speedup": speedup, "seed": task.seed, **outcome(method, task)}


def drawing(table: Sequence[dict[str, Any]], network: str) -> bytes:
    mine = [entry for entry in table if entry["network"] == network]
    methods = dict.fromkeys(entry["method"] for entry in mine)
    series = [Series(method, [(entry["speedup"], entry["mean"]) for entry in mine if entry["method"] == method]) for method in methods]
    return draw_curves(series, ".png", title=f"{network} on CIFAR-10, same epochs in all", x="speed-up (MACs)", y="test accuracy")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=float, nargs=2, default=[0.4, 0.6], help="before and after the cut")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--speedups", type=float, nargs="+", default=[2.9, 2.3])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--metanetwork", help="in place of the one that ships")
    parser.add_argument("--output", type=Path, default=RESULTS / "metaprune.json")
    return parser.parse_args()


def main() -> None:
    options, threads = arguments(), set_threads(1)
    graph, normalization = lifted(options.weights), AKAMASTER if "akamaster" in options.weights.stem else CHENYAOFO
    data = load_data(options.data, input_shape=SHAPE, outputs=10, normalization=normalization)
    metanetwork = read_metanetwork(options.metanetwork)
    common = {"epochs": options.epochs, "training_images": len(data.train), "pressure": PRESSURE}
    jobs: list[tuple[Key, Callable[[], Row]]] = [
        (
            (graph.source, method, speedup, seed),
            partial(measure, method, speedup, Task(graph, data, goal_of(speedup), tuple(options.epochs), seed, metanetwork)),
        )
        for seed in range(options.seeds)
        for speedup in options.speedups
        for method in options.methods
    ]
    rows = collect(options.output, threads, common, jobs, itemgetter("network", "method", "speedup", "seed"), partial(averages, NAMES))
    options.output.with_suffix(".png").write_bytes(drawing(averages(NAMES, rows)["summary"], graph.source))


if __name__ == "__main__":
    main()
