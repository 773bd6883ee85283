"""Appendix C of Meta Compression, numbers instead of classes: `python tests/benchmarks/recommend_regression.py HOUSING.csv FOLDER [--trials 600]`.

California housing (Pace and Barry 1997) in its eight usual columns, rows drawn 64:16:20 into training, evaluation and test, targets standardized,
so that an RMSE of 1 is what the mean alone gives. The four networks of Gorishniy et al. (2021), each in three widths: trained, tried by
`recommend --train`, and judged with one of the four families held out at a time, under constraints from 1x to 120x; a hit is within 0.01 of the
RMSE of exhaustive search. FOLDER keeps data, models and trials: a second run goes on where the first was stopped. `paper` is table 7.
"""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, heading, write
from recommend_plot import draw_regression, rounded

from compresskit.data import Dataset, load_data
from compresskit.models.checkpoint import save_checkpoint
from compresskit.models.graph import TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.zoo import build
from compresskit.recommend.cases import Case, Metrics, averaged, by_prediction, compression_cases, curve
from compresskit.recommend.config import TrainRequest
from compresskit.recommend.evaluate import divided, judged, static
from compresskit.recommend.predictor import fit
from compresskit.recommend.sweep import run
from compresskit.recommend.table import Table, read_table
from compresskit.recommend.trees import PAPER
from compresskit.runtime import set_threads
from compresskit.training import TrainConfig, evaluate, train

FAMILIES = ("table_mlp", "snn", "table_resnet", "dcn_v2")
WIDTHS = (1.0, 0.5, 0.25)
SHARES = (0.64, 0.16, 0.20)
EPOCHS = 30.0
TARGET = "median_house_value"
PAPER_NUMBERS = {"top1": 1.0, "error": 0.0, "mae": 0.13, "tau": 0.51}


def housing(path: Path, seed: int = 0) -> dict[str, np.ndarray]:
    """The data set in three splits: columns and target standardized by the training rows; rows with missing values are left out."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if all(row.values())]
    columns = np.array([_columns(row) for row in rows], np.float32)
    target = np.array([float(row[TARGET]) for row in rows], np.float32)
    order = np.random.default_rng(seed).permutation(len(rows))
    bounds = np.cumsum([round(share * len(rows)) for share in SHARES[:-1]])
    parts = dict(zip(("train", "val", "test"), np.split(order, bounds), strict=True))
    known = parts["train"]
    columns = (columns - columns[known].mean(0)) / columns[known].std(0)
    target = (target - target[known].mean()) / target[known].std()
    found = {f"x_{name}": columns[chosen].clip(-10, 10) for name, chosen in parts.items()}
    return found | {f"y_{name}": target[chosen] for name, chosen in parts.items()}


def _columns(row: dict[str, str]) -> list[float]:
    """Income, age, rooms, bedrooms and people a household, people, latitude, longitude."""
    value = {name: float(text) for name, text in row.items() if name != "ocean_proximity"}
    a_household = [value[name] / value["households"] for name in ("total_rooms", "total_bedrooms", "population")]
    return [value["median_income"], value["housing_median_age"], *a_household, value["population"], value["latitude"], value["longitude"]]


def make(family: str, width: float, data: Dataset, path: Path) -> None:
    """Train one network."""
    torch.manual_seed(0)
    graph = graph_from_module(build(family, width=width), [TensorSpec("input", (None, 8))], source=path.stem, arch=family)
    train(graph.module, data, TrainConfig(epochs=EPOCHS, batch_size=256, optimizer="adamw", lr=3e-3))
    path.write_bytes(save_checkpoint(graph))
    assert data.test is not None
    print(f"{path.stem}: RMSE {evaluate(graph.module, data.test, data.normalization).rmse:.4f}", flush=True)


def judgements(table: Table) -> dict[str, Any]:
    """Each family held out in turn."""
    models = sorted({problem.model for problem in table.problems.values()})
    found: dict[str, list[Metrics]] = {"ours": [], "paper's trees": [], "static": []}
    cases: dict[str, list[Case]] = {"ours": [], "static": []}
    for family in models:
        inside, outside = divided(table, {family})
        ours, paper, fixed = fit(inside), fit(inside, PAPER), static(inside)
        found["ours"].append(judged(outside, by_prediction(ours), ours))
        found["paper's trees"].append(judged(outside, by_prediction(paper), paper))
        found["static"].append(judged(outside, fixed))
        cases["ours"] += compression_cases(outside, by_prediction(ours))
        cases["static"] += compression_cases(outside, fixed)
    return {
        "metrics": {name: asdict(averaged(every)) for name, every in found.items()},
        "families": dict(zip(models, map(asdict, found["ours"]), strict=True)),
        "curves": {name: [asdict(point) for point in curve(every)] for name, every in cases.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, default=600)
    parser.add_argument("--output", type=Path, default=RESULTS / "recommend_regression.json")
    options = parser.parse_args()
    threads = set_threads(1)
    nets, archive, predictor = options.folder / "nets", options.folder / "housing.npz", options.folder / "housing.predictor"
    nets.mkdir(parents=True, exist_ok=True)
    np.savez(archive, **housing(options.table))
    data = load_data(archive, input_shape=(8,), outputs=1)
    for family in FAMILIES:
        for width in WIDTHS:
            path = nets / f"{family}-{width:g}.pt"
            if not path.exists():
                make(family, width, data, path)
    report = run(TrainRequest(str(nets), (str(archive),), str(predictor), trials=options.trials, force=True))
    table = read_table(predictor.with_name(predictor.name + ".trials"))
    facts = {
        "problems": len(table.problems),
        "trials": len(table.trials),
        "failed": len(report.failed),
        "cpu_seconds": sum(trial.seconds for trial in table.trials),
        "original": {problem.name: problem.original for problem in table.problems.values()},
    }
    result = rounded({**heading(threads, "xgboost-cpu"), "table": facts, **judgements(table), "paper": PAPER_NUMBERS})
    write(options.output, result)
    draw_regression(result, options.output.with_suffix(".png"))
    print(json.dumps(result["metrics"], indent=2))


if __name__ == "__main__":
    main()
