"""Recommendations beside exhaustive search: what they reach under each constraint (Meta Compression, section 4.2).

a problem's trials ─► those that meet a constraint ─► ranked ─► Case: the first and the best of five, beside the best there is
                                                                  └─► Metrics over all cases, Points over those of one constraint
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from compresskit.recommend.constraints import Constraints
from compresskit.recommend.predictor import Predictor
from compresskit.recommend.ranking import Candidate, nearest, shortlist
from compresskit.recommend.settings import Setting
from compresskit.recommend.table import Problem, Table, Trial

EPSILON = 0.01
COMPRESSIONS = (1, *range(10, 121, 10))
"""Section 4.2: from 1x to 120x, with a step of 10."""
LOSSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3)
"""Of the retained part: what the accuracy constraints allow."""
FEW = 5

Ranker = Callable[[Problem, Sequence[Trial]], Sequence[Trial]]
"""From a problem and the trials that meet a constraint to these trials, or some, best first."""


@dataclass(frozen=True)
class Case:
    """One recommendation of up to five settings.

    Attributes:
        constraint: least compression, or allowed loss in retained parts.
        best: what exhaustive search reaches: quality, or compression.
        first, few: what the first and the best of the five reach.
        hit1, hit5: whether these are as good as the best, but for EPSILON.
        error: what the first falls short of the best by: in quality, or as a fraction of the compression.
        tau: rank correlation of predicted and real quality; NaN where nothing is predicted, or one of them is constant.
    """

    constraint: float
    best: float
    first: float
    few: float
    hit1: bool
    hit5: bool
    error: float
    tau: float = math.nan


@dataclass(frozen=True)
class Metrics:
    """Averages over splits, problems and constraints; None where a table is too small to have any, or nothing is predicted.

    Attributes:
        top5, top1: fraction of recommendations that hit.
        error: of the first, as in `Case`.
        mae: mean absolute error of the predicted quality.
        tau: Kendall's rank correlation of predicted and real quality.
        coverage: fraction of real qualities inside the predicted intervals.
    """

    top5: float | None
    top1: float | None
    error: float | None
    mae: float | None = None
    tau: float | None = None
    coverage: float | None = None


@dataclass(frozen=True)
class Point:
    """Means over the cases of one constraint; the names as in `Case` and `Metrics`."""

    constraint: float
    cases: int
    best: float
    first: float
    few: float
    top1: float
    top5: float


def by_prediction(predictor: Predictor) -> Ranker:
    """The order in which a user sees them."""

    def rank(problem: Problem, candidates: Sequence[Trial]) -> list[Trial]:
        return _ranked(predictor, problem, candidates, Constraints(compression=1.0))

    return rank


def compression_cases(table: Table, rank: Ranker, predictor: Predictor | None = None) -> Iterator[Case]:
    """The best quality at a compression of at least each of COMPRESSIONS that some trial of a problem meets."""
    for problem, trials in by_problem(table):
        for constraint in COMPRESSIONS:
            candidates = [trial for trial in trials if trial.setting.compression >= constraint]
            if not candidates:
                continue
            tau = math.nan if predictor is None else _tau(predictor, problem, candidates)
            # Whoever has nothing to offer is left with a constant answer.
            real = [trial.quality for trial in rank(problem, candidates)[:FEW]] or [problem.trivial]
            best, few = (max(group, key=problem.retained) for group in ([trial.quality for trial in candidates], real))
            yield Case(constraint, best, real[0], few, abs(best - real[0]) <= EPSILON, abs(best - few) <= EPSILON, abs(best - real[0]), tau)


def accuracy_cases(table: Table, predictor: Predictor, *, highest: bool = False) -> Iterator[Case]:
    """The highest compression at each of the LOSSES (section 4.2, figure 5).

    Args:
        highest: whether a hit has to reach the best compression too, and not just to keep the accuracy.
    """
    for problem, trials in by_problem(table):
        scale = abs(problem.original - problem.trivial)
        for allowed in LOSSES:
            good = [trial.setting.compression for trial in trials if problem.retained(trial.quality) >= 1 - allowed]
            if not good:
                continue
            first = _ranked(predictor, problem, trials, _keeping(problem, allowed))[:FEW]
            kept = [scale * (1 - allowed - problem.retained(trial.quality)) <= EPSILON for trial in first]
            reached = [trial.setting.compression if meets else 1.0 for trial, meets in zip(first, kept, strict=True)]
            hits = [meets and (not highest or found >= (1 - EPSILON) * max(good)) for meets, found in zip(kept, reached, strict=True)]
            error = abs(1 - first[0].setting.compression / max(good))
            yield Case(allowed, max(good), reached[0], max(reached), hits[0], any(hits), error)


def summarized(cases: Iterable[Case], mae: float | None = None, coverage: float | None = None) -> Metrics:
    """The mean of each figure."""
    cases = list(cases)
    hits5, hits1, errors = (mean(getattr(case, name) for case in cases) for name in ("hit5", "hit1", "error"))
    return Metrics(hits5, hits1, errors, mae, mean(case.tau for case in cases), coverage)


def averaged(every: Sequence[Metrics]) -> Metrics:
    """The mean of each figure."""
    return Metrics(**{field.name: mean(getattr(one, field.name) for one in every) for field in fields(Metrics)})


def curve(cases: Iterable[Case]) -> tuple[Point, ...]:
    """What is reached, a point a constraint, in ascending order."""
    groups: dict[float, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.constraint, []).append(case)
    names = ("best", "first", "few", "hit1", "hit5")
    return tuple(
        Point(constraint, len(group), *(float(np.mean([getattr(case, name) for case in group])) for name in names))
        for constraint, group in sorted(groups.items())
    )


def prediction_errors(table: Table, predictor: Predictor) -> tuple[float | None, float | None]:
    """Mean absolute error and coverage over all trials; None without any."""
    errors, inside = [], []
    for problem, trials in by_problem(table):
        for trial, prediction in zip(trials, predictor.predict(problem, [trial.setting for trial in trials]), strict=True):
            errors.append(abs(prediction.quality - trial.quality))
            inside.append(prediction.low <= trial.quality <= prediction.high)
    return mean(errors), mean(inside)


def by_problem(table: Table) -> Iterator[tuple[Problem, list[Trial]]]:
    """Each problem that was tried, and its trials."""
    trials: dict[str, list[Trial]] = {}
    for trial in table.trials:
        trials.setdefault(trial.problem, []).append(trial)
    yield from ((table.problems[name], group) for name, group in trials.items())


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are known: neither None nor NaN."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    return float(np.mean(known)) if known else None


def kendall(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> float:
    """Kendall's tau-b; NaN where one of them is constant."""
    a, b = (np.sign(np.subtract.outer(values, values)) for values in (np.asarray(first), np.asarray(second)))
    untied = math.sqrt(float((a != 0).sum()) * float((b != 0).sum()))
    return float((a * b).sum()) / untied if untied else math.nan


def _keeping(problem: Problem, allowed: float) -> Constraints:
    quality = problem.quality(1 - allowed)
    return Constraints(accuracy=quality) if problem.higher_is_better else Constraints(error=quality)


def _ranked(predictor: Predictor, problem: Problem, trials: Sequence[Trial], constraints: Constraints) -> list[Trial]:
    """Those of `trials` that a user is told of, in that order: all that are predicted to meet `constraints`, or else the nearest."""
    tried: Mapping[Setting, Trial] = {trial.setting: trial for trial in trials}
    candidates = [Candidate(prediction, size=0.0) for prediction in predictor.predict(problem, list(tried))]
    higher = problem.higher_is_better
    found = shortlist(candidates, constraints, higher_is_better=higher) or [nearest(candidates, constraints, higher_is_better=higher)]
    return [tried[candidate.prediction.setting] for candidate in found]


def _tau(predictor: Predictor, problem: Problem, trials: Sequence[Trial]) -> float:
    predicted = predictor.retained(problem, [trial.setting for trial in trials])
    return kendall(predicted, [problem.retained(trial.quality) for trial in trials])
