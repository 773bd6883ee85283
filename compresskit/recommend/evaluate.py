"""How good recommendations are: the metrics of Meta Compression, section 4.2, over splits of the architectures.

For a constraint, the candidates are the trials that meet it. A recommendation of k settings hits where the best of them is within EPSILON
of the best candidate; the error of the first is what it falls short by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from compresskit.recommend.predictor import PAPER, Predictor, TreeConfig, fit
from compresskit.recommend.settings import Setting
from compresskit.recommend.table import Problem, Table, Trial

EPSILON = 0.01
COMPRESSIONS = (1, *range(10, 121, 10))
"""Section 4.2: from 1x to 120x, with a step of 10."""
LOSSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3)
"""Of the retained part: what the accuracy constraints allow."""
TEST_SHARE = 0.25

Ranker = Callable[[Problem, Sequence[Trial]], list[Trial]]
"""From a problem and the trials that meet a constraint to these trials, best first."""


@dataclass(frozen=True)
class Metrics:
    """Averages over splits, problems and constraints; None where a table is too small to have any.

    Attributes:
        top5, top1: fraction of recommendations that hit.
        error: what the first falls short of the best by, in quality; for accuracy constraints in the logarithm of the compression to base 10.
        mae: mean absolute error of the predicted quality; None where nothing is predicted.
        tau: Kendall's rank correlation of predicted and real quality; None likewise.
        coverage: fraction of real qualities inside the predicted intervals.
    """

    top5: float | None
    top1: float | None
    error: float | None
    mae: float | None = None
    tau: float | None = None
    coverage: float | None = None


def splits(models: Sequence[str], count: int = 10, seed: int = 0) -> Iterator[set[str]]:
    """Architectures to test on: a quarter of all, drawn `count` times."""
    rng = np.random.default_rng(seed)
    size = max(1, round(TEST_SHARE * len(models)))
    for _ in range(count):
        yield {models[index] for index in rng.choice(len(models), size, replace=False)}


def cross_validated(
    table: Table, config: TreeConfig = PAPER, *, count: int = 10, seed: int = 0, features: Callable[[str], bool] | None = None
) -> Mapping[str, Metrics]:
    """Metrics of "predicted" and "static" recommendations under constraints on compression, and of "accuracy" constraints."""
    models = sorted({problem.model for problem in table.problems.values()})
    found: dict[str, list[Metrics]] = {"predicted": [], "static": [], "accuracy": []}
    for held in splits(models, count, seed):
        inside, outside = divided(table, held)
        predictor = fit(inside, config, features=features)
        found["predicted"].append(judged(outside, by_prediction(predictor), predictor))
        found["static"].append(judged(outside, static(inside)))
        found["accuracy"].append(judged_by_accuracy(outside, predictor))
    return {name: averaged(every) for name, every in found.items()}


def divided(table: Table, held: set[str]) -> tuple[Table, Table]:
    """The table without the architectures in `held`, and the table of these."""
    parts = []
    for wanted in (False, True):
        problems = {name: problem for name, problem in table.problems.items() if (problem.model in held) is wanted}
        parts.append(Table(problems, tuple(trial for trial in table.trials if trial.problem in problems)))
    return parts[0], parts[1]


def by_prediction(predictor: Predictor) -> Ranker:
    """Best predicted first; an RMSE is better where it is lower, a retained part always where it is higher."""

    def rank(problem: Problem, candidates: Sequence[Trial]) -> list[Trial]:
        scores = predictor.retained(problem, [trial.setting for trial in candidates])
        return [candidates[index] for index in np.argsort(-scores, kind="stable")]

    return rank


def static(table: Table) -> Ranker:
    """The one pair of pruner and quantizer that was best on average, at its levels from the mildest on (the paper's static ERM)."""
    pairs: dict[tuple[str, str], list[float]] = {}
    for problem, candidates in _cases(table):
        best: dict[tuple[str, str], float] = {}
        for trial in candidates:
            pair = _pair(trial.setting)
            best[pair] = max(best.get(pair, -math.inf), problem.retained(trial.quality))
        for pair, value in best.items():
            pairs.setdefault(pair, []).append(value)
    most = max(len(values) for values in pairs.values())
    # A pair that cannot meet every constraint is no strategy.
    chosen = max((pair for pair in pairs if len(pairs[pair]) == most), key=lambda pair: float(np.mean(pairs[pair])))

    def rank(problem: Problem, candidates: Sequence[Trial]) -> list[Trial]:
        return sorted((trial for trial in candidates if _pair(trial.setting) == chosen), key=lambda trial: trial.setting.compression)

    return rank


def judged(table: Table, rank: Ranker, predictor: Predictor | None = None) -> Metrics:
    """Metrics under constraints on the compression."""
    hits5, hits1, errors, taus = [], [], [], []
    for problem, candidates in _cases(table):
        order = rank(problem, candidates)
        best = max(problem.retained(trial.quality) for trial in candidates)
        scale = abs(problem.original - problem.trivial)
        short = [scale * (best - problem.retained(trial.quality)) for trial in order] or [scale * best]
        hits5.append(min(short[:5]) <= EPSILON)
        hits1.append(short[0] <= EPSILON)
        errors.append(short[0])
        if predictor is not None and len(candidates) > 1:
            taus.append(kendall(predictor.retained(problem, [t.setting for t in candidates]), [problem.retained(t.quality) for t in candidates]))
    figures = float(np.mean(hits5)), float(np.mean(hits1)), float(np.mean(errors))
    if predictor is None:
        return Metrics(*figures)
    mae, coverage = _prediction_errors(table, predictor)
    return Metrics(*figures, mae, _mean(taus), coverage)


def judged_by_accuracy(table: Table, predictor: Predictor) -> Metrics:
    """Metrics for the highest compression at an allowed loss (section 4.2, figure 5)."""
    hits5, hits1, errors = [], [], []
    for problem, trials in _problems(table):
        expected = predictor.retained(problem, [trial.setting for trial in trials])
        scale = abs(problem.original - problem.trivial)
        for allowed in LOSSES:
            good = [t.setting.compression for t in trials if problem.retained(t.quality) >= 1 - allowed]
            chosen = [t for t, e in zip(trials, expected, strict=True) if e >= 1 - allowed]
            chosen.sort(key=lambda trial: -trial.setting.compression)
            if not good or not chosen:
                continue
            meets = [scale * (1 - allowed - problem.retained(trial.quality)) <= EPSILON for trial in chosen[:5]]
            hits5.append(any(meets))
            hits1.append(meets[0])
            errors.append(abs(math.log10(max(good) / chosen[0].setting.compression)))
    mae, coverage = _prediction_errors(table, predictor)
    return Metrics(_mean(hits5), _mean(hits1), _mean(errors), mae, None, coverage)


def averaged(every: Sequence[Metrics]) -> Metrics:
    """The mean of each figure."""
    return Metrics(**{field.name: _mean([getattr(one, field.name) for one in every]) for field in fields(Metrics)})


def _mean(values: Iterable[float | None]) -> float | None:
    """Of those that are known: neither None nor NaN."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    return float(np.mean(known)) if known else None


def kendall(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> float:
    """Kendall's tau-b; NaN where one of them is constant."""
    a, b = (np.sign(np.subtract.outer(values, values)) for values in (np.asarray(first), np.asarray(second)))
    untied = math.sqrt(float((a != 0).sum()) * float((b != 0).sum()))
    return float((a * b).sum()) / untied if untied else math.nan


def erm_bound(problems: int, methods: int, delta: float = 0.05) -> float:
    """How far the best method on `problems` may be from the best there is, with probability 1 - `delta` (Lemma 3.1)."""
    return math.sqrt(2 / problems * math.log(methods / delta))


def _prediction_errors(table: Table, predictor: Predictor) -> tuple[float, float]:
    """Mean absolute error and coverage over all trials."""
    errors, inside = [], []
    for problem, trials in _problems(table):
        for trial, prediction in zip(trials, predictor.predict(problem, [t.setting for t in trials]), strict=True):
            errors.append(abs(prediction.quality - trial.quality))
            inside.append(prediction.low <= trial.quality <= prediction.high)
    return float(np.mean(errors)), float(np.mean(inside))


def _cases(table: Table) -> Iterator[tuple[Problem, list[Trial]]]:
    """Every problem under every constraint on the compression that some trial meets."""
    for problem, trials in _problems(table):
        for constraint in COMPRESSIONS:
            candidates = [trial for trial in trials if trial.setting.compression >= constraint]
            if candidates:
                yield problem, candidates


def _problems(table: Table) -> Iterator[tuple[Problem, list[Trial]]]:
    for name, problem in table.problems.items():
        if trials := [trial for trial in table.trials if trial.problem == name]:
            yield problem, trials


def _pair(setting: Setting) -> tuple[str, str]:
    return setting.pruner, setting.quantizer
