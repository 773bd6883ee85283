"""ProsPr on a trained network: `python tests/benchmarks/at_init_trained.py CIFAR10.npz --weights cifar10_resnet20_akamaster.safetensors`.

The thesis leaves open (section 3.5) what meta-gradients say of a network that is trained. The published ResNet-20 is cut to half of its MACs by
each method and fine-tuned alike, for a short while on part of the images; the test images are touched once, at the end of each run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from at_init_common import parser, some
from cifar import published
from common import Row, collect

from compresskit.data import Dataset
from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph
from compresskit.pruning.config import PruneConfig, Target
from compresskit.pruning.engine import prune
from compresskit.runtime import set_threads
from compresskit.training import evaluate

TARGET = Target("flops", 0.5)
EPOCHS = 2.0
METHODS: dict[str, dict[str, Any]] = {
    "prospr": {"method": "prospr"},
    "prospr+ca": {"method": "prospr", "compute_aware": True},
    "taylor": {"criterion": "taylor", "scope": "global"},
    "group norm": {"criterion": "l2", "scope": "global"},
    "group norm, uniform width": {"criterion": "l2"},
}


def measure(method: str, seed: int, graph: ModelGraph, data: Dataset) -> Row:
    """One row; accuracies right after the cut, with fresh norms, and after the fine-tuning."""
    config = PruneConfig(target=TARGET, seed=seed, epochs=EPOCHS, **METHODS[method])
    began = time.process_time()
    result = prune(graph, data, config)
    seconds = time.process_time() - began
    first = result.history[0].validation
    found = evaluate(result.graph.module, data.test or data.validation, data.normalization)
    return {
        "method": method,
        "seed": seed,
        "accuracy": round(found.accuracy or 0.0, 4),
        "validation_after_one_epoch": round(first.accuracy or 0.0, 4) if first else None,
        "kept_macs": round(result.reached, 4),
        "parameters": total(result.graph).params,
        "cpu_seconds": round(seconds, 1),
        "notes": list(result.notes),
    }


def summary(rows: list[Row]) -> Mapping[str, Any]:
    """Means and standard deviations over the seeds, best first."""
    table = []
    for method in dict.fromkeys(row["method"] for row in rows):
        runs = [row for row in rows if row["method"] == method]
        accuracies = [row["accuracy"] for row in runs]
        entry: Row = {"method": method, "runs": len(runs), "mean": round(statistics.mean(accuracies), 4)}
        entry["sd"] = round(statistics.stdev(accuracies), 4) if len(runs) > 1 else None
        table.append({**entry, "parameters": round(statistics.mean(row["parameters"] for row in runs))})
    return {"summary": sorted(table, key=lambda entry: -entry["mean"])}


def main() -> None:
    options = parser(__doc__, "at_init_trained.json")
    options.add_argument("--weights", type=Path, required=True)
    options.add_argument("--limit", type=int, help="stop after this many rows")
    asked = options.parse_args()
    threads = set_threads(asked.threads)
    data = some(asked.data)
    graph = published(asked.weights)
    whole = evaluate(graph.module, data.test or data.validation, data.normalization)
    common = {
        "network": asked.weights.stem,
        "target": asdict(TARGET),
        "epochs": EPOCHS,
        "images": len(data.train),
        "accuracy_before": whole.accuracy,
        "methods": METHODS,
    }
    jobs: list[tuple[tuple[str, int], Callable[[], Row]]] = [
        ((method, seed), partial(measure, method, seed, graph, data)) for seed in range(asked.seeds) for method in METHODS
    ]
    collect(asked.output, threads, common, jobs[: asked.limit], lambda row: (row["method"], row["seed"]), summary)


if __name__ == "__main__":
    main()
