"""How good recommendations are for what a fit had not seen: architectures, or methods (Meta Compression, section 4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from compresskit.recommend.cases import (
    COMPRESSIONS,
    Metrics,
    Ranker,
    accuracy_cases,
    averaged,
    by_prediction,
    by_problem,
    compression_cases,
    prediction_errors,
    summarized,
)
from compresskit.recommend.predictor import Predictor, fit
from compresskit.recommend.settings import PRUNERS, QUANTIZERS, Setting
from compresskit.recommend.table import Problem, Table, Trial
from compresskit.recommend.trees import TreeConfig

TEST_SHARE = 0.25

Pair = tuple[str, str]
"""A pruner and a quantizer."""


@dataclass(frozen=True)
class Fold:
    """A predictor, and what it did not see.

    Attributes:
        inside: what it was fitted to.
        outside: the other trials.
    """

    inside: Table
    outside: Table
    predictor: Predictor


def cross_validated(
    table: Table, config: TreeConfig | None = None, *, count: int = 10, seed: int = 0, features: Callable[[str], bool] | None = None
) -> Mapping[str, Metrics]:
    """Metrics of "predicted" and "static" recommendations under constraints on compression, and of "accuracy" constraints."""
    found: dict[str, list[Metrics]] = {"predicted": [], "static": [], "accuracy": []}
    for fold in new_architectures(table, config, count=count, seed=seed, features=features):
        found["predicted"].append(judged(fold.outside, by_prediction(fold.predictor), fold.predictor))
        found["static"].append(judged(fold.outside, static(fold.inside)))
        found["accuracy"].append(judged_by_accuracy(fold.outside, fold.predictor))
    return {name: averaged(every) for name, every in found.items()}


def new_architectures(
    table: Table, config: TreeConfig | None = None, *, count: int = 10, seed: int = 0, features: Callable[[str], bool] | None = None
) -> Iterator[Fold]:
    """Fits to three quarters of the architectures, drawn `count` times. Raises as `fit`."""
    models = sorted({problem.model for problem in table.problems.values()})
    for held in splits(models, count, seed):
        inside, outside = divided(table, held)
        yield Fold(inside, outside, fit(inside, config, features=features))


def new_methods(table: Table, config: TreeConfig | None = None) -> Iterator[Fold]:
    """Fits without one pruner or quantizer, each in turn, to the same architectures (section 4.3.2). Raises as `fit`."""
    for method in (*PRUNERS, *QUANTIZERS):
        parts = [tuple(trial for trial in table.trials if (method in pair(trial.setting)) is wanted) for wanted in (False, True)]
        if parts[1]:
            inside, outside = (replace(table, trials=trials) for trials in parts)
            yield Fold(inside, outside, fit(inside, config))


def splits(models: Sequence[str], count: int = 10, seed: int = 0) -> Iterator[set[str]]:
    """Architectures to test on: a quarter of all, drawn `count` times."""
    rng = np.random.default_rng(seed)
    size = max(1, round(TEST_SHARE * len(models)))
    for _ in range(count):
        yield {models[index] for index in rng.choice(len(models), size, replace=False)}


def divided(table: Table, held: set[str]) -> tuple[Table, Table]:
    """The table without the architectures in `held`, and the table of these."""
    parts = []
    for wanted in (False, True):
        problems = {name: problem for name, problem in table.problems.items() if (problem.model in held) is wanted}
        parts.append(Table(problems, tuple(trial for trial in table.trials if trial.problem in problems)))
    return parts[0], parts[1]


def by_pair(table: Table) -> Mapping[Pair, Table]:
    """The trials of each pair of a pruner and a quantizer (table 1)."""
    trials: dict[Pair, list[Trial]] = {}
    for trial in table.trials:
        trials.setdefault(pair(trial.setting), []).append(trial)
    return {key: replace(table, trials=tuple(group)) for key, group in sorted(trials.items())}


def pair(setting: Setting) -> Pair:
    return setting.pruner, setting.quantizer


def static(table: Table) -> Ranker:
    """The one pair of pruner and quantizer that was best on average, at its levels from the mildest on (the paper's static ERM)."""
    chosen = static_pair(table)

    def rank(problem: Problem, candidates: Sequence[Trial]) -> list[Trial]:
        return sorted((trial for trial in candidates if pair(trial.setting) == chosen), key=lambda trial: trial.setting.compression)

    return rank


def static_pair(table: Table) -> Pair:
    """The pair with the least empirical risk over the problems and constraints of `table`; one that cannot meet a constraint keeps nothing there."""
    pairs = by_pair(table)
    kept: dict[Pair, list[float]] = {key: [] for key in pairs}
    for problem, trials in by_problem(table):
        for constraint in COMPRESSIONS:
            best = dict.fromkeys(pairs, 0.0)
            for trial in trials:
                if trial.setting.compression >= constraint:
                    key = pair(trial.setting)
                    best[key] = max(best[key], problem.retained(trial.quality))
            for key, value in best.items():
                kept[key].append(value)
    return max(kept, key=lambda key: float(np.mean(kept[key])))


def judged(table: Table, rank: Ranker, predictor: Predictor | None = None) -> Metrics:
    """Metrics under constraints on the compression."""
    cases = compression_cases(table, rank, predictor)
    return summarized(cases) if predictor is None else summarized(cases, *prediction_errors(table, predictor))


def judged_by_accuracy(table: Table, predictor: Predictor, *, highest: bool = False) -> Metrics:
    """Metrics for the highest compression at an allowed loss; `highest` as in `accuracy_cases`."""
    return summarized(accuracy_cases(table, predictor, highest=highest), *prediction_errors(table, predictor))


def erm_bound(problems: int, methods: int, delta: float = 0.05) -> float:
    """How far the best method on `problems` may be from the best there is, with probability 1 - `delta` (Lemma 3.1)."""
    return math.sqrt(2 / problems * math.log(methods / delta))
