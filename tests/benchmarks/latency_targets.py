"""Latencies asked for and met: `python tests/benchmarks/latency_targets.py [--nets resnet20 ...] [--targets 0.8 0.6 0.4]`.

Networks of the zoo, data-free (latency depends on widths, not on weights), against a table of this machine. A row holds what the table
predicted first, what the search ended with, and a measurement made anew afterwards, in turns with the uncut network.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from common import RESULTS, heading, write

from compresskit.models.graph import ModelGraph
from compresskit.models.latency_measure import blank_table, measure_table, measured_share
from compresskit.models.latency_operators import uses
from compresskit.models.latency_table import Table
from compresskit.models.load import load_model
from compresskit.pruning.config import PruneConfig, Target
from compresskit.pruning.engine import prune
from compresskit.runtime import seed_everything, set_threads

NETS = ("resnet20", "mobilenet_v2", "vit")
TARGETS = (0.8, 0.6, 0.4)


def measure(graph: ModelGraph, table: Table, target: float) -> dict[str, Any]:
    """One row."""
    began = time.perf_counter()
    result = prune(graph, None, PruneConfig(target=Target("latency", target)), table=table)
    seconds = time.perf_counter() - began
    whole = table.whole(uses(graph, table.batch)).ms
    return {
        "network": graph.source,
        "target": target,
        "first_prediction": round(result.tries[0].predicted / whole, 4),
        "first_measurement": round(result.tries[0].measured / whole, 4),
        "tries": len(result.tries),
        "reached": round(result.reached, 4),
        "met": result.met,
        "measured_again": round(measured_share(result.graph, graph, threads=table.threads, batch=table.batch, seconds=2.0), 4),
        "seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=list(NETS))
    parser.add_argument("--targets", type=float, nargs="+", default=list(TARGETS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "latency_targets.json")
    options = parser.parse_args()
    threads = set_threads(options.threads)
    tables, rows = [], []
    for name in options.nets:
        seed_everything(0)
        graph = load_model(name)
        began = time.perf_counter()
        table = measure_table(graph, blank_table(threads=threads))
        whole = table.whole(uses(graph, table.batch))
        points = sum(len(entry.inputs) * len(entry.outputs) for entry in table.entries)
        seconds = round(time.perf_counter() - began, 1)
        tables.append({"network": name, "points": points, "seconds": seconds, "ms": round(whole.ms, 4), "operators_ms": round(whole.operators_ms, 4)})
        for target in options.targets:
            rows.append(measure(graph, table, target))
            print(rows[-1], file=sys.stderr, flush=True)
    write(options.output, {**heading(threads), "tables": tables, "rows": rows})


if __name__ == "__main__":
    main()
