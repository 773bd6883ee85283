"""Section 4 of Meta Compression redrawn from a table of trials: `python tests/benchmarks/recommend_tables.py X.predictor.trials`.

figure 3   top-5 and top-1 accuracy (within 0.01 of exhaustive search), error of the first, MAE and Kendall's tau under constraints from 1x to 120x,
           of our predictor, of the paper's trees (100 of depth 10) on the same columns and on the paper's, and of the static strategy
table 1    the same, pair by pair of pruner and quantizer: candidates are the pair's own settings
table 2    new architectures, new data, new methods (each pruner and quantizer left out in turn), and both
figure 5   the highest compression at an allowed loss: `keeps`: a hit keeps the accuracy within 0.01, `highest`: and reaches the best compression
figure 6   solution features from training samples, from half of the test samples, from held-out and from generated ones

All but new methods: means over ten splits of the architectures, 3:1. Every fit chooses its own trees within its training part; figure 6 and new
methods take those that most splits chose. Figure 6 and new data describe the models anew: they need --models and --data (and --generated, made by
`recommend --generate`). There, evaluation data change the features and the original accuracy; the accuracy that trials reached stays that of
the test samples. `paper` holds the numbers that its text gives.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, heading, write
from recommend_paper import AIMS, NOT_FOUND, PAPER_NUMBERS
from recommend_plot import draw_tables, rounded

from compresskit.data import Dataset, Split, load_data
from compresskit.models.load import load_model
from compresskit.recommend.cases import (
    Case,
    Metrics,
    accuracy_cases,
    averaged,
    by_prediction,
    compression_cases,
    curve,
    summarized,
)
from compresskit.recommend.evaluate import (
    Fold,
    by_pair,
    erm_bound,
    judged,
    judged_by_accuracy,
    new_architectures,
    new_methods,
    static,
    static_pair,
)
from compresskit.recommend.features import problem as describe
from compresskit.recommend.table import Problem, Table, read_table
from compresskit.recommend.trees import PAPER, TreeConfig
from compresskit.runtime import set_threads

SPLITS = 10
HALF = 5000
BEYOND = ("kept_energy", "kept_channels", "rounding_db", "probe_")
"""Of features that the paper does not have."""

Row = dict[str, Any]


def of_paper(name: str) -> bool:
    return not name.startswith(BEYOND)


def points(cases: Iterable[Case]) -> list[Row]:
    return [asdict(point) for point in curve(cases)]


def figure_3(table: Table, folds: list[Fold]) -> Row:
    """Under constraints on the compression."""
    ours = [case for fold in folds for case in compression_cases(fold.outside, by_prediction(fold.predictor), fold.predictor)]
    fixed = [case for fold in folds for case in compression_cases(fold.outside, static(fold.inside))]
    trees = {
        "paper's trees": list(new_architectures(table, PAPER, count=SPLITS)),
        "paper's trees and columns": list(new_architectures(table, PAPER, count=SPLITS, features=of_paper)),
    }
    metrics = {"ours": predicted(folds), **{name: predicted(found) for name, found in trees.items()}, "static": summarized(fixed)}
    return {
        "metrics": {name: asdict(found) for name, found in metrics.items()},
        "curves": {"ours": points(ours), "static": points(fixed)},
        "static_pair": " + ".join(static_pair(table)),
        "bound": erm_bound(len(table.problems), len(by_pair(table))),
        "chosen": [asdict(fold.predictor.config) for fold in folds],
    }


def predicted(folds: Iterable[Fold]) -> Metrics:
    return averaged([judged(fold.outside, by_prediction(fold.predictor), fold.predictor) for fold in folds])


def table_1(folds: list[Fold]) -> list[Row]:
    """Pair by pair."""
    found: dict[str, list[Metrics]] = {}
    trials: dict[str, int] = {}
    for fold in folds:
        for pair, part in by_pair(fold.outside).items():
            name = " + ".join(pair)
            found.setdefault(name, []).append(judged(part, by_prediction(fold.predictor), fold.predictor))
            trials[name] = trials.get(name, 0) + len(part.trials)
    return [{"pair": name, "trials": trials[name], **asdict(averaged(every))} for name, every in found.items()]


def favourite(folds: list[Fold]) -> TreeConfig:
    """The trees that most splits chose."""
    chosen = [fold.predictor.config for fold in folds]
    return max(chosen, key=chosen.count)


def table_2(table: Table, folds: list[Fold], strange: Table | None) -> list[Row]:
    """What is new to the predictor; `strange` describes the same problems by other evaluation data."""
    methods = list(new_methods(table, favourite(folds)))
    rows = [{"new": "architectures", **asdict(predicted(folds))}, {"new": "methods", **asdict(predicted(methods))}]
    rows += [{"new": "methods", "left_out": left_out(fold), **asdict(predicted([fold]))} for fold in methods]
    if strange is not None:
        swapped = [[replace(fold, outside=described(fold.outside, strange)) for fold in group] for group in (folds, methods)]
        rows += [{"new": new, **asdict(predicted(group))} for new, group in zip(("data and architectures", "data and methods"), swapped, strict=True)]
    return rows


def left_out(fold: Fold) -> str:
    (name,) = set.intersection(*({trial.setting.pruner, trial.setting.quantizer} for trial in fold.outside.trials))
    return name


def described(part: Table, by: Table) -> Table:
    return replace(part, problems={name: by.problems[name] for name in part.problems})


def figure_5(folds: list[Fold]) -> Row:
    """Under constraints on the accuracy."""
    found: Row = {"metrics": {}, "curves": {}}
    for name, highest in (("keeps", False), ("highest", True)):
        found["metrics"][name] = asdict(averaged([judged_by_accuracy(fold.outside, fold.predictor, highest=highest) for fold in folds]))
        found["curves"][name] = points(case for fold in folds for case in accuracy_cases(fold.outside, fold.predictor, highest=highest))
    return found


def figure_6(tables: Mapping[str, Table], config: TreeConfig) -> Row:
    """By where the solution features are from."""
    found: Row = {"metrics": {}, "curves": {}}
    for name, table in tables.items():
        folds = list(new_architectures(table, config, count=SPLITS))
        found["metrics"][name] = asdict(predicted(folds))
        found["curves"][name] = points(case for fold in folds for case in compression_cases(fold.outside, by_prediction(fold.predictor)))
    return found


def evaluations(data: Dataset, generated: Path | None, seed: int = 0) -> Mapping[str, Split]:
    """Evaluation data to choose from; half of the test samples stay out, or its features would know what trials were measured on."""
    assert data.test is not None
    rng = np.random.default_rng(seed)

    def some(split: Split, count: int) -> Split:
        chosen = np.sort(rng.permutation(len(split))[:count])
        return Split(split.x[chosen], split.y[chosen])

    count = min(HALF, len(data.validation))
    found = {"training": some(data.train, count), "test": some(data.test, len(data.test) // 2), "held out": data.validation}
    if generated is not None:
        made = load_data(generated, input_shape=data.train.x.shape[1:], outputs=data.classes, normalization=data.normalization)
        found["generated"] = Split(np.concatenate([made.train.x, made.validation.x]), np.concatenate([made.train.y, made.validation.y]))
    return found


def redescribed(table: Table, models: Path, data: Dataset, evaluation: Split) -> Table:
    """The same trials of problems whose solution features are from `evaluation`."""
    problems: dict[str, Problem] = {}
    for name, problem in table.problems.items():
        graph = load_model(models / f"{name.split('/')[0]}.pt")
        found = describe(graph, data, name=name, data_name=problem.data, evaluation=evaluation)
        problems[name] = replace(found, model=problem.model)
    return replace(table, problems=problems)


def met(result: Row) -> dict[str, bool]:
    """Which of the aims were reached."""
    found = result["figure_3"]["metrics"]["ours"]
    figures = {**found, "accuracy_top5": result["figure_5"]["metrics"]["keeps"]["top5"], "trials": result["table"]["trials"]}
    figures["architectures"] = result["table"]["architectures"]
    return {name: low <= figures[name] <= high for name, (low, high) in AIMS.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="folder of trials.csv and problems.csv")
    parser.add_argument("--models", type=Path, help="folder of the models, for figure 6 and new data")
    parser.add_argument("--data", help="what they were tried on")
    parser.add_argument("--generated", type=Path, help=".npz of recommend --generate")
    parser.add_argument("--output", type=Path, default=RESULTS / "recommend_tables.json")
    options = parser.parse_args()
    threads = set_threads(1)
    table = read_table(options.table)
    models = sorted({problem.model for problem in table.problems.values()})
    facts = {"trials": len(table.trials), "architectures": len(models), "models": models, "ignored": table.ignored}
    folds = list(new_architectures(table, count=SPLITS))
    result: Row = {**heading(threads, "xgboost-cpu"), "table": facts, "figure_3": figure_3(table, folds), "table_1": table_1(folds)}
    result["figure_5"] = figure_5(folds)
    tables: dict[str, Table] = {}
    if options.models is not None:
        shape = load_model(next(iter(sorted(options.models.glob("*.pt"))))).inputs[0].shape[1:]
        data = load_data(options.data, input_shape=tuple(int(size or 1) for size in shape))
        for name, split in evaluations(data, options.generated).items():
            tables[name] = redescribed(table, options.models, data, split)
        result["figure_6"] = figure_6(tables, favourite(folds))
    result["table_2"] = table_2(table, folds, tables.get("test"))
    result |= {"aims": AIMS, "met": met(result), "paper": PAPER_NUMBERS, "not_found_in_the_text": NOT_FOUND}
    write(options.output, rounded(result))
    draw_tables(json.loads(options.output.read_text()), options.output.with_suffix(".png"))
    print(json.dumps({"figure_3": rounded(result["figure_3"]["metrics"]), "met": result["met"]}, indent=2))


if __name__ == "__main__":
    main()
