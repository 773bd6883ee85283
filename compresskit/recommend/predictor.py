"""The accuracy predictor: gradient-boosted trees from problem and setting to the quality that compression leaves (Meta Compression, equation 3).

Predicted is the retained part of what the model has over the best constant answer (`Problem.retained`), so that one predictor serves
accuracies, errors and any number of classes. Intervals are conformal: from the residuals on architectures that a fit had not seen,
which grow with the compression, so that each of a few ranges of compression has its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from compresskit.errors import InputError
from compresskit.recommend.features import is_of_model
from compresskit.recommend.settings import Setting
from compresskit.recommend.table import Problem, Table, Trial
from compresskit.recommend.trees import CHOICES, HIGHEST, LOWEST, PAPER, TreeConfig, grow, retained_parts
from compresskit.recommend.vectors import Scaling, fit_scaling, names, vectors

if TYPE_CHECKING:
    import xgboost

COVERAGE = 0.9
FEWEST_ARCHITECTURES = 3


@dataclass(frozen=True)
class Margins:
    """Half widths of intervals, in retained parts.

    Attributes:
        edges: of the compression, ascending; one fewer than `widths`.
        widths: of the 90% interval in each range.
    """

    edges: tuple[float, ...]
    widths: tuple[float, ...]

    def of(self, setting: Setting) -> float:
        return self.widths[int(np.digitize(setting.compression, self.edges))]


@dataclass(frozen=True)
class Prediction:
    """What a setting is expected to give, as a quality of the problem: accuracy, or RMSE. `low` to `high` covers 90%."""

    setting: Setting
    quality: float
    low: float
    high: float


@dataclass(frozen=True)
class Predictor:
    """A fitted predictor.

    Attributes:
        booster: the trees.
        scaling: of the problems' features.
        margins: of the intervals.
        problems: that it was fitted to.
        settings: that their trials had.
        config: of the trees.
    """

    booster: xgboost.Booster
    scaling: Scaling
    margins: Margins
    problems: tuple[Problem, ...]
    settings: tuple[Setting, ...]
    config: TreeConfig = PAPER

    def retained(self, problem: Problem, settings: Sequence[Setting]) -> np.ndarray:
        """(settings,) the retained part that is expected."""
        return retained_parts(self.booster, vectors(problem, settings, self.scaling), self.config)

    def predict(self, problem: Problem, settings: Sequence[Setting]) -> tuple[Prediction, ...]:
        """What each of `settings` is expected to give."""
        found = []
        most = 1.0 if problem.higher_is_better else math.inf
        for setting, retained in zip(settings, self.retained(problem, settings), strict=True):
            margin = self.margins.of(setting)
            low, high = sorted(problem.quality(float(retained) + sign * margin) for sign in (-1, 1))
            found.append(Prediction(setting, problem.quality(float(retained)), max(low, 0.0), min(high, most)))
        return tuple(found)


@dataclass(frozen=True)
class Predictors:
    """A predictor for problems with data, and one that knows models alone: its intervals are wider."""

    informed: Predictor
    blind: Predictor

    def for_problem(self, problem: Problem) -> Predictor:
        return self.blind if math.isnan(problem.features.get("loss", math.nan)) else self.informed


def fit_both(table: Table, config: TreeConfig | None = None) -> Predictors:
    """Fit both to the same trials. As `fit`."""
    return Predictors(fit(table, config), fit(table, config, features=is_of_model))


def fit(table: Table, config: TreeConfig | None = None, *, features: Callable[[str], bool] | None = None) -> Predictor:
    """Fit to a table of trials, intervals included: five fits on parts of the architectures, and one on all.

    Args:
        config: of the trees; None: the one of CHOICES whose predictions for architectures that it had not seen are the nearest.
        features: which of the problems' features to use; None: all.

    Raises:
        InputError: there are fewer architectures than intervals need.
    """
    models = sorted({table.problems[trial.problem].model for trial in table.trials})
    if len(models) < FEWEST_ARCHITECTURES:
        raise InputError(f"a predictor needs trials of {FEWEST_ARCHITECTURES} architectures or more: the table has those of {len(models)}")
    tried = {one: _residuals(table, models, one, features) for one in ((config,) if config is not None else CHOICES)}
    chosen = min(tried, key=lambda one: float(np.mean([size for _, size in tried[one]])))
    return replace(_fitted(table, table.trials, chosen, features), margins=conformal(tried[chosen]))


def _residuals(table: Table, models: Sequence[str], config: TreeConfig, features: Callable[[str], bool] | None) -> list[tuple[float, float]]:
    """Of every trial its compression and how far off it was predicted without its architecture."""
    found: list[tuple[float, float]] = []
    for held in folds(models, min(5, len(models)), config.seed):
        inside = [trial for trial in table.trials if table.problems[trial.problem].model not in held]
        outside = [trial for trial in table.trials if table.problems[trial.problem].model in held]
        partial = _fitted(table, inside, config, features)
        for name, trials in _by_problem(outside).items():
            expected = partial.retained(table.problems[name], [trial.setting for trial in trials])
            sizes = np.abs(expected - _targets(table, trials)).tolist()
            found += zip((trial.setting.compression for trial in trials), sizes, strict=True)
    return found


def folds(models: Sequence[str], count: int, seed: int) -> list[set[str]]:
    """`models` in `count` parts."""
    order = np.random.default_rng(seed).permutation(len(models))
    return [{models[index] for index in part} for part in np.array_split(order, count)]


def conformal(residuals: Sequence[tuple[float, float]], ranges: int = 5) -> Margins:
    """Margins from pairs of compression and absolute residual, in ranges of compression with as many residuals each.

    The quantile has the correction for few samples of split conformal prediction (Lei et al. 2018).
    """
    compressions, sizes = np.array(residuals).reshape(-1, 2).T
    edges = np.unique(np.quantile(compressions, np.linspace(0, 1, ranges + 1)[1:-1]))
    place = np.digitize(compressions, edges)
    filled = [sizes[place == index] for index in range(len(edges) + 1)]
    return Margins(tuple(edges.tolist()), tuple(_quantile(part if len(part) else sizes) for part in filled))


def _quantile(sizes: np.ndarray) -> float:
    level = min(1.0, np.ceil((len(sizes) + 1) * COVERAGE) / len(sizes))
    return float(np.quantile(sizes, level, method="higher"))


def _fitted(table: Table, trials: Sequence[Trial], config: TreeConfig, features: Callable[[str], bool] | None) -> Predictor:
    groups = _by_problem(trials)
    problems = [table.problems[name] for name in groups]
    known = sorted({name for problem in problems for name in problem.features if features is None or features(name)})
    scaling = fit_scaling(problems, known)
    rows = np.concatenate([vectors(table.problems[name], [trial.setting for trial in group], scaling) for name, group in groups.items()])
    targets = np.concatenate([_targets(table, group) for group in groups.values()])
    booster = grow(rows, targets, names(scaling), config)
    every = tuple(sorted({trial.setting for trial in trials}))
    return Predictor(booster, scaling, Margins((), (0.0,)), tuple(problems), every, config)


def _targets(table: Table, trials: Sequence[Trial]) -> np.ndarray:
    return np.clip([table.problems[trial.problem].retained(trial.quality) for trial in trials], LOWEST, HIGHEST)


def _by_problem(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    found: dict[str, list[Trial]] = {}
    for trial in trials:
        found.setdefault(trial.problem, []).append(trial)
    return found
