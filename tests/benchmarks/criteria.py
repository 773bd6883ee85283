"""Which criterion is the best to begin with: `python tests/benchmarks/criteria.py WEIGHTS CIFAR10.npz DIGITS.pt DIGITS.npz`.

The same targets, epochs and seeds by several criteria, judged on the validation split. Accuracies right after the cut, refitted but not trained,
and after training; masks that are learned begin as the criterion ranks the channels. A row that is there is not measured again.

Reconstruction leaves 64.3% of CIFAR-10 right where l2 leaves 58.8% (ResNet-20 at a third of its MACs, untrained), and after training has the smaller
loss on digits in four of five settings; accuracies there differ by an image or two of 130.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial

from common import Row, collect
from distillation import Case, asked, digits, images, judged

from compresskit.pruning.config import Method, PruneConfig, Target
from compresskit.pruning.engine import prune
from compresskit.runtime import set_threads

CRITERIA = ("l2", "reconstruction")
KEYS = ("case", "method", "target", "epochs", "criterion")


@dataclass(frozen=True)
class Block:
    """Rows that are measured one after the other: every criterion for each target and seed."""

    case: Case
    method: Method
    targets: tuple[float, ...]
    epochs: float
    seeds: int


def measure(block: Block, criterion: str, target: float, seed: int) -> Row:
    """One row."""
    began = time.process_time()
    config = PruneConfig(target=Target("flops", target), method=block.method, criterion=criterion, epochs=block.epochs, seed=seed)
    result = prune(block.case.graph, block.case.data, config)
    seconds = time.process_time() - began
    row = {"case": block.case.name, "method": block.method, "target": target, "epochs": block.epochs, "criterion": criterion, "seed": seed}
    return {**row, **judged(block.case, result.graph.module), "cpu_seconds": round(seconds, 1)}


def summary(rows: Sequence[Row]) -> list[Row]:
    """Means over the seeds."""
    table = []
    for group in dict.fromkeys(tuple(row[key] for key in KEYS) for row in rows):
        runs = [row for row in rows if tuple(row[key] for key in KEYS) == group]
        means = {key: round(statistics.mean(row[key] for row in runs), 4) for key in ("accuracy", "loss", "cpu_seconds")}
        table.append({**dict(zip(KEYS, group, strict=True)), "runs": len(runs), **means})
    return table


def main() -> None:
    options = asked(__doc__, "criteria.json")
    threads = set_threads(options.threads)
    small, large = digits(options.model, options.digits), images(options.weights, options.cifar)
    blocks = (
        Block(small, "classic", (0.33, 0.2, 0.1), 0.0, 1),
        Block(small, "classic", (0.33, 0.2, 0.1), 5.0, 5),
        Block(small, "l1l2", (0.2, 0.1), 5.0, 5),
        Block(large, "classic", (0.5, 0.33), 0.0, 1),
    )
    jobs: list[tuple[Hashable, Callable[[], Row]]] = [
        ((block.case.name, block.method, target, block.epochs, criterion, seed), partial(measure, block, criterion, target, seed))
        for block in blocks
        for target in block.targets
        for seed in range(block.seeds)
        for criterion in CRITERIA
    ]
    collect(options.output, threads, {}, jobs, lambda row: tuple(row[name] for name in (*KEYS, "seed")), lambda rows: {"summary": summary(rows)})


if __name__ == "__main__":
    main()
