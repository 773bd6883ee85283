"""Chapter 3's tables on a small scale: `python tests/benchmarks/at_init_tables.py CIFAR10.npz [--only channels zeros steps compute weights]`.

channels tables 3.1 and 3.4: 80, 90 and 95% of the parameters pruned; structured: random, 3SP, ProsPr
zeros    the same, unstructured: SNIP, GraSP, SynFlow
steps    table 3.5: ProsPr after M = 1 and 2 steps; M = 0 is 3SP, and M = 3 the ProsPr of `channels`. Each step takes a new batch
weights  3SP with weights re-scaled or drawn anew, of the same tables
compute  figure 3.6: shares of the MACs; 3SP with and without compute awareness, and uniform width

What came out: ProsPr leads at 90 and 95%, and each step that it looks ahead helps at 95%; 3SP is between random and ProsPr at 90%, level with
ProsPr at 80% and below random at 95%, where whole layers keep a channel or two. Re-scaling or drawing anew lifts 3SP by 2 to 10 points, above
random everywhere. At equal MACs, compute awareness is worth 4 to 13 points to 3SP, and uniform width is still above it at 25 and 10%.

Every row trains alike, by the recipe `short`. Each also says what training and inference cost beside the unpruned network's (tables A.5, 3.2):
seconds of processor time an epoch by `compresskit.training.cost`, and the median time of one image in ONNX Runtime, in turns with the other.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from at_init_common import IMAGES, WIDTH, fresh_vgg19, parser, some
from at_init_plot import draw_tables
from common import Row, collect

from compresskit.data import Dataset
from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph, random_inputs
from compresskit.models.latency import compare
from compresskit.models.onnx_out import export_onnx
from compresskit.progress import SILENT
from compresskit.pruning.config import PruneConfig, Quantity, Target
from compresskit.pruning.engine import prune
from compresskit.pruning.recovery import Recovery
from compresskit.recipes import RECIPES
from compresskit.runtime import set_threads
from compresskit.training import evaluate

PARAMETERS = (0.2, 0.1, 0.05)  # that stay
MACS = (0.5, 0.25, 0.1)
WEIGHTS: dict[str, Any] = {"pattern": "unstructured"}
CHANNELS: dict[str, Any] = {"round_to": 1}

PARTS = ("channels", "steps", "compute", "zeros", "weights")

METHODS: dict[str, dict[str, Any]] = {
    "dense": {},
    "random": {**CHANNELS, "method": "random"},
    "3sp": {**CHANNELS, "method": "3sp"},
    "prospr": {**CHANNELS, "method": "prospr"},
    "snip-unstructured": {**WEIGHTS, "method": "snip"},
    "grasp-unstructured": {**WEIGHTS, "method": "grasp"},
    "synflow-unstructured": {**WEIGHTS, "method": "synflow"},
    "prospr-1": {**CHANNELS, "method": "prospr", "inner_steps": 1},
    "prospr-2": {**CHANNELS, "method": "prospr", "inner_steps": 2},
    "3sp+reinit": {**CHANNELS, "method": "3sp", "reinit": True},
    "3sp+rescale": {**CHANNELS, "method": "3sp", "rescale": True},
    "3sp+ca": {**CHANNELS, "method": "3sp", "compute_aware": True},
    "uniform": {**CHANNELS, "method": "random", "scope": "layer"},
}


@dataclass(frozen=True)
class Job:
    """One row: what is pruned to how much, and the seed of weights, scores and training."""

    part: str
    method: str
    quantity: Quantity
    kept: float
    seed: int


def jobs(parts: Sequence[str], seeds: int) -> Iterator[Job]:
    """All rows of the parts, seed by seed, so that what is cut short is still a comparison."""
    plans: dict[str, tuple[tuple[str, ...], Quantity, tuple[float, ...]]] = {
        "channels": (("random", "3sp", "prospr"), "params", PARAMETERS),
        "zeros": (("snip-unstructured", "grasp-unstructured", "synflow-unstructured"), "params", PARAMETERS),
        "steps": (("prospr-1", "prospr-2"), "params", PARAMETERS[1:]),
        "compute": (("3sp", "3sp+ca", "uniform"), "flops", MACS),
        "weights": (("3sp+reinit", "3sp+rescale"), "params", PARAMETERS),
    }
    for seed in range(seeds):
        for part in parts:
            methods, quantity, shares = plans[part]
            if part == "channels":
                yield Job(part, "dense", quantity, 1.0, seed)
            for kept in shares:
                yield from (Job(part, method, quantity, kept, seed) for method in methods)


def measure(job: Job, data: Dataset) -> Row:
    """Prune, train, and measure one row."""
    graph = fresh_vgg19(job.seed)
    config = _config(job)
    began = time.process_time()
    if job.method == "dense":
        recovery = Recovery(graph, data, config, torch.device("cpu"), None, SILENT)
        recovery.train(graph, phase=0, phases=1)
        smaller, notes = graph, ()
    else:
        result = prune(graph, data, config)
        smaller, notes = result.graph, result.notes
    seconds = time.process_time() - began
    found = evaluate(smaller.module, data.test or data.validation, data.normalization)
    before, after = total(graph), total(smaller)
    nonzero = sum(int(parameter.count_nonzero()) for parameter in smaller.module.parameters())
    return {
        **asdict(job),
        "accuracy": round(found.accuracy or 0.0, 4),
        "kept_parameters": round(nonzero / before.params, 4),
        "kept_macs": round(after.macs / before.macs, 4),
        "parameters": nonzero,
        "macs": after.macs,
        "cpu_seconds": round(seconds, 1),
        **_costs(job, graph, smaller, data, config),
        "notes": list(notes),
    }


def _config(job: Job) -> PruneConfig:
    settings = {"init": True, **METHODS[job.method]} if job.method != "dense" else {"init": True, "method": "random"}
    target = Target(job.quantity, min(job.kept, 0.5) if job.method == "dense" else job.kept)
    return PruneConfig.from_recipe("short", target=target, seed=job.seed, **settings)


def _costs(job: Job, graph: ModelGraph, smaller: ModelGraph, data: Dataset, config: PruneConfig) -> Row:
    """Training and inference beside the unpruned network's; once a method, for widths hardly depend on the seed."""
    if job.seed:
        return {}
    recovery = Recovery(graph, data, config, torch.device("cpu"), None, SILENT)
    training = recovery.cost(smaller)
    assert training is not None
    feeds = {spec.name: value.numpy() for spec, value in zip(graph.inputs, random_inputs(graph.inputs, 1, free_batch=False), strict=True)}
    models = [export_onnx(model).SerializeToString() for model in (graph, smaller)]
    dense, latency = compare(models[0], models[1], feeds, threads=1, seconds=0.5)
    return {
        "epoch_seconds": round(training.epoch_seconds, 2),
        "training_bytes": training.peak_bytes,
        "latency_ms": round(latency.p50_ms, 4),
        "latency_kept": round(latency.p50_ms / dense.p50_ms, 4),
        "onnx_bytes": len(models[1]),
    }


def summary(rows: list[Row]) -> Mapping[str, Any]:
    """Means and standard deviations of the accuracy over the seeds, best first, and costs beside the unpruned network's."""
    dense = next((row["epoch_seconds"] for row in rows if row["method"] == "dense" and "epoch_seconds" in row), None)
    table = []
    for part, kept, method in sorted({(row["part"], row["kept"], row["method"]) for row in rows}):
        runs = [row for row in rows if (row["part"], row["kept"], row["method"]) == (part, kept, method)]
        accuracies = [row["accuracy"] for row in runs]
        entry: Row = {"part": part, "kept": kept, "method": method, "runs": len(runs), "mean": round(statistics.mean(accuracies), 4)}
        entry["sd"] = round(statistics.stdev(accuracies), 4) if len(runs) > 1 else None
        entry |= {name: round(statistics.mean(row[name] for row in runs), 4) for name in ("kept_parameters", "kept_macs")}
        costs = next((row for row in runs if "epoch_seconds" in row), None)
        if costs and dense:
            entry |= {"epoch_kept": round(costs["epoch_seconds"] / dense, 4), "latency_kept": costs["latency_kept"]}
        table.append(entry)
    return {"summary": sorted(table, key=lambda entry: (entry["part"], -entry["kept"], -entry["mean"]))}


def key(row: Row) -> Job:
    return Job(row["part"], row["method"], row["quantity"], row["kept"], row["seed"])


def main() -> None:
    options = parser(__doc__, "at_init_tables.json")
    options.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    options.add_argument("--limit", type=int, help="stop after this many rows")
    asked = options.parse_args()
    threads = set_threads(asked.threads)
    data = some(asked.data)
    common = {
        "network": "VGG-19 of appendix A.4.1",
        "width": WIDTH,
        "images": IMAGES,
        "recipe": {"name": "short", **RECIPES["short"].settings()},
        "methods": METHODS,
    }
    planned: list[tuple[Job, Callable[[], Row]]] = [(job, partial(measure, job, data)) for job in jobs(asked.only, asked.seeds)]
    rows = collect(asked.output, threads, common, planned[: asked.limit], key, summary)
    draw_tables(summary(rows)["summary"], asked.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
