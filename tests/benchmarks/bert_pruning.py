"""A small BERT on SST-2, trained here, at half of its MACs: `python tests/benchmarks/bert_pruning.py sst2_train.tsv sst2_dev.tsv`.

Nobody publishes weights of a network as small, so the network of the zoo is trained from scratch on the 6,920 sentences, once a seed; each
method prunes that network, with the same epochs, and the dev sentences are the test split, touched at the end of each run. The embeddings
are looked up, not multiplied, and so count no MACs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from common import RESULTS, heading, write

from compresskit.data import Dataset, load_data, vocabulary_size
from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph
from compresskit.models.load import load_model
from compresskit.pruning.config import PruneConfig, Target
from compresskit.pruning.engine import prune
from compresskit.runtime import seed_everything, set_threads
from compresskit.training import TrainConfig, evaluate, train

TARGET = 0.5
TRAINING = TrainConfig(epochs=6.0, optimizer="adamw", lr=1e-3, weight_decay=0.01)
COMMON: dict[str, Any] = {"target": Target("flops", TARGET), "epochs": 4.0, "optimizer": "adamw", "learning_rate": 5e-4}
METHODS: dict[str, dict[str, Any]] = {
    "channels": {"method": "classic"},
    "ffn, heads": {"method": "classic", "blocks": ("ffn", "heads")},
    "ffn, heads, lowrank": {"method": "classic", "blocks": ("ffn", "heads", "lowrank")},
    "l1l2: ffn, heads, lowrank": {"method": "l1l2", "blocks": ("ffn", "heads", "lowrank")},
}


def trained(data: Dataset, seed: int) -> ModelGraph:
    """The network of the zoo, trained on `data`."""
    seed_everything(seed)
    graph = load_model("bert")
    train(graph.module, data, replace(TRAINING, seed=seed))
    return graph


def measure(graph: ModelGraph, data: Dataset, name: str, seed: int) -> dict[str, Any]:
    """One row; the network as it is where `name` is none of the methods."""
    began = time.process_time()
    pruned = prune(graph, data, PruneConfig(**COMMON, **METHODS[name], seed=seed)).graph if name in METHODS else graph
    seconds = time.process_time() - began
    assert data.test is not None
    found = evaluate(pruned.module, data.test, data.normalization)
    kept = total(pruned).macs / total(graph).macs
    return {"method": name, "seed": seed, "accuracy": round(found.accuracy or 0.0, 4), "kept_macs": round(kept, 4), "cpu_seconds": round(seconds, 1)}


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the seeds, and what is lost against the whole network of the same seed, in points."""
    whole = {row["seed"]: row["accuracy"] for row in rows if row["method"] == "whole"}
    table = []
    for name in dict.fromkeys(row["method"] for row in rows):
        runs = [row for row in rows if row["method"] == name]
        changes = [100 * (row["accuracy"] - whole[row["seed"]]) for row in runs]
        entry = {"method": name, "runs": len(runs), "mean": round(statistics.mean(row["accuracy"] for row in runs), 4)}
        entry |= {"change": round(statistics.mean(changes), 2), "worst_change": round(min(changes), 2)}
        table.append({**entry, "kept_macs": round(statistics.mean(row["kept_macs"] for row in runs), 4)})
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "bert_pruning.json")
    options = parser.parse_args()
    threads = set_threads(options.threads)
    like = load_model("bert")
    data = load_data(f"{options.train},{options.dev}", input_shape=(64,), outputs=2, vocabulary=vocabulary_size(like))
    settings = {"training": asdict(TRAINING), "pruning": {**COMMON, "target": TARGET}, "methods": METHODS, "dev_sentences": len(data.test or ())}
    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        graph = trained(data, seed)
        for name in ("whole", *METHODS):
            rows.append(measure(graph, data, name, seed))
            print(rows[-1], file=sys.stderr, flush=True)
            write(options.output, {**heading(threads), "settings": settings, "summary": summary(rows), "rows": rows})


if __name__ == "__main__":
    main()
