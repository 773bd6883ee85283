"""What training after a cut gains by the uncut model's outputs: `python tests/benchmarks/distillation.py WEIGHTS CIFAR10.npz DIGITS.pt DIGITS.npz`.

The same cut, the same epochs and the same seeds with several weights of distillation, judged on the validation split, which no training sees; the
test split is left for other benchmarks. A row that is there is not measured again.

It gained on 1,167 digits (0.8 to 1.0 points) and lost on the 45,000 pictures of CIFAR-10 (0.3 to 0.4), where two epochs are short for a softer
target. So it is not the default, and no rule is made of two cases.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cifar import load, published
from common import RESULTS, Row, collect
from torch import nn

from compresskit.data import Dataset, load_data
from compresskit.models.graph import ModelGraph
from compresskit.models.load import load_model
from compresskit.pruning.config import PruneConfig, Target
from compresskit.pruning.engine import prune
from compresskit.runtime import set_threads
from compresskit.training import evaluate

WEIGHTS = (0.0, 0.5, 0.9)


@dataclass(frozen=True)
class Case:
    """A trained network, its data, and what is asked."""

    name: str
    graph: ModelGraph
    data: Dataset
    target: float
    epochs: float
    seeds: int


def images(weights: Path, data: Path) -> Case:
    return Case("resnet20", published(weights), load(data), 0.33, 2.0, 2)


def digits(model: Path, data: Path) -> Case:
    return Case("digits", load_model(model), load_data(data, input_shape=(1, 8, 8), outputs=10), 0.2, 5.0, 3)


def measure(case: Case, distill: float, seed: int) -> Row:
    """One row."""
    began = time.perf_counter()
    config = PruneConfig(target=Target("flops", case.target), method="classic", epochs=case.epochs, distill=distill, seed=seed)
    module = prune(case.graph, case.data, config).graph.module
    seconds = time.perf_counter() - began
    row = {"case": case.name, "target": case.target, "epochs": case.epochs, "distill": distill, "seed": seed}
    return {**row, **judged(case, module), "seconds": round(seconds, 1)}


def judged(case: Case, module: nn.Module) -> dict[str, float]:
    """Accuracy and loss on the validation split."""
    assert case.data.validation is not None
    found = evaluate(module, case.data.validation, case.data.normalization)
    return {"accuracy": round(found.accuracy or 0.0, 4), "loss": round(found.loss, 4)}


def summary(rows: Sequence[Row]) -> list[Row]:
    """Mean accuracy and loss over the seeds, by case and weight."""
    table = []
    for case, distill in sorted({(row["case"], row["distill"]) for row in rows}):
        runs = [row for row in rows if (row["case"], row["distill"]) == (case, distill)]
        means = {name: round(statistics.mean(row[name] for row in runs), 4) for name in ("accuracy", "loss", "seconds")}
        table.append({"case": case, "distill": distill, "runs": len(runs), **means})
    return table


def asked(description: str | None, output: str) -> argparse.Namespace:
    """What the command line says of the files of both cases, and where the rows go."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("weights", "cifar", "model", "digits"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / output)
    return parser.parse_args()


def main() -> None:
    options = asked(__doc__, "distillation.json")
    threads = set_threads(options.threads)
    cases = (digits(options.model, options.digits), images(options.weights, options.cifar))
    jobs: list[tuple[Hashable, Callable[[], Row]]] = [
        ((case.name, distill, seed), partial(measure, case, distill, seed)) for case in cases for seed in range(case.seeds) for distill in WEIGHTS
    ]
    collect(options.output, threads, {}, jobs, lambda row: (row["case"], row["distill"], row["seed"]), lambda rows: {"summary": summary(rows)})


if __name__ == "__main__":
    main()
