"""Figure 4 d of L1/L2 surrogates: MACs against latency as what masks pay for: `python tests/benchmarks/surrogate_latency.py WEIGHTS CIFAR10.npz`.

The published ResNet-20, a table of this machine's operators, and the same short training for both: one surrogate counts MACs, the other looks
up milliseconds. The latency of every result is measured in ONNX Runtime, in turns with the uncut network.

What came out: 60% of the MACs in widths of any multiple of 2 run no faster than the whole network. At three quarters of the latency its own
surrogate is 1.6 points ahead of that of MACs, at 0.6 of it 2 points behind: widths are multiples of 8 and 4 there, which few of 16 channels allow.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cifar import load, part, published
from common import RESULTS, Row, collect
from matplotlib.figure import Figure

from compresskit.data import Dataset
from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph
from compresskit.models.latency_measure import measured_share
from compresskit.pruning.config import PruneConfig, Quantity, Target
from compresskit.pruning.engine import prune
from compresskit.runtime import set_threads
from compresskit.training import evaluate

TARGETS: tuple[tuple[Quantity, tuple[float, ...]], ...] = (("flops", (0.6, 0.4, 0.25)), ("latency", (0.75, 0.6, 0.45)))
EPOCHS = 4.0
IMAGES = 10_000
LABELS = {"flops": "surrogate of MACs", "latency": "surrogate of latency"}


def measure(quantity: Quantity, value: float, seed: int, graph: ModelGraph, data: Dataset) -> Row:
    """One row."""
    result = prune(graph, data, PruneConfig(target=Target(quantity, value), method="l1l2", criterion="l2", epochs=EPOCHS, seed=seed))
    assert data.test is not None
    return {
        "quantity": quantity,
        "target": value,
        "seed": seed,
        "accuracy": round(evaluate(result.graph.module, data.test, data.normalization).accuracy or 0.0, 4),
        "kept_macs": round(total(result.graph).macs / total(graph).macs, 4),
        "kept_latency": round(measured_share(result.graph, graph, seconds=3.0), 4),
    }


def summary(rows: list[Row]) -> Mapping[str, Any]:
    """Means over the seeds."""
    table = []
    for quantity, value in dict.fromkeys((row["quantity"], row["target"]) for row in rows):
        runs = [row for row in rows if (row["quantity"], row["target"]) == (quantity, value)]
        means = {name: round(statistics.mean(row[name] for row in runs), 4) for name in ("accuracy", "kept_macs", "kept_latency")}
        table.append({"quantity": quantity, "target": value, "runs": len(runs), **means})
    return {"summary": table}


def draw(rows: list[Row], path: Path) -> None:
    """Accuracy over measured latency."""
    figure = Figure(figsize=(4.5, 3.5), layout="constrained")
    axes = figure.subplots()
    for quantity, label in LABELS.items():
        means = [entry for entry in summary(rows)["summary"] if entry["quantity"] == quantity]
        axes.plot([entry["kept_latency"] for entry in means], [100 * entry["accuracy"] for entry in means], marker="o", label=label)
    axes.set_xlabel("measured latency kept")
    axes.set_ylabel("test accuracy [%]")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "surrogate_latency.json")
    options = parser.parse_args()
    threads = set_threads(options.threads)
    data, graph = part(load(options.data), train=IMAGES, validation=500), published(options.weights)
    common = {"network": options.weights.stem, "epochs": EPOCHS, "images": IMAGES, "targets": TARGETS}
    jobs: list[tuple[tuple[str, float, int], Callable[[], Row]]] = [
        ((quantity, value, seed), partial(measure, quantity, value, seed, graph, data))
        for seed in range(options.seeds)
        for quantity, values in TARGETS
        for value in values
    ]
    rows = collect(options.output, threads, common, jobs, lambda row: (row["quantity"], row["target"], row["seed"]), summary)
    draw(rows, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
