"""The metrics of recommendations."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy.stats import kendalltau

from compresskit.recommend.cases import accuracy_cases, by_prediction, compression_cases, curve, kendall, summarized
from compresskit.recommend.evaluate import by_pair, cross_validated, divided, erm_bound, judged, new_methods, splits, static
from compresskit.recommend.predictor import fit
from compresskit.recommend.table import Problem, Table, Trial
from compresskit.recommend.trees import TreeConfig

QUICK = TreeConfig(trees=60, depth=5, rate=0.15)


def test_kendall_is_scipys() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        first, second = rng.integers(0, 6, (2, 15))
        assert kendall(first, second) == pytest.approx(kendalltau(first, second).statistic)
    assert math.isnan(kendall([1, 1], [1, 2]))


def test_an_oracle_always_hits_and_its_opposite_never_does(table: Table) -> None:
    def oracle(problem: Problem, candidates: list[Trial]) -> list[Trial]:
        return sorted(candidates, key=lambda trial: -trial.quality)

    best = judged(table, oracle)
    assert (best.top5, best.top1, best.error) == (1, 1, 0)
    worst = judged(table, lambda problem, candidates: oracle(problem, candidates)[::-1])
    assert worst.top1 < 0.1
    assert worst.error > 0.3


def test_predictions_beat_the_one_strategy_for_all(table: Table) -> None:
    found = cross_validated(table, QUICK, count=2)
    assert found["predicted"].top5 > 0.9
    assert found["predicted"].error <= found["static"].error
    assert found["predicted"].tau > 0.8
    assert 0.8 < found["predicted"].coverage <= 1
    assert found["accuracy"].top5 > 0.8


def test_the_static_strategy_is_the_best_pair_on_average(table: Table) -> None:
    rank = static(table)
    problem = next(iter(table.problems.values()))
    candidates = [trial for trial in table.trials if trial.problem == problem.name and trial.setting.compression >= 20]
    found = rank(problem, candidates)
    assert {(trial.setting.pruner, trial.setting.quantizer) for trial in found} == {("level-tuned", "lsq")}
    assert [trial.setting.compression for trial in found] == sorted(trial.setting.compression for trial in found)


def test_cases_say_what_is_reached_and_points_average_them(table: Table) -> None:
    inside, outside = divided(table, {"m0", "m1"})
    predictor = fit(inside, QUICK)
    cases = list(compression_cases(outside, by_prediction(predictor), predictor))
    for case in cases:
        assert case.first <= case.few <= case.best
        assert case.error == pytest.approx(case.best - case.first)
        assert case.hit5 or not case.hit1
    points = curve(cases)
    assert [point.constraint for point in points] == sorted({case.constraint for case in cases})
    assert sum(point.cases * point.top5 for point in points) / len(cases) == pytest.approx(summarized(cases).top5)


def test_to_keep_an_accuracy_is_easier_than_to_reach_the_highest_compression(table: Table) -> None:
    inside, outside = divided(table, {"m0", "m1"})
    predictor = fit(inside, QUICK)
    kept, highest = (list(accuracy_cases(outside, predictor, highest=value)) for value in (False, True))
    assert len(kept) == len(highest)
    assert all(one.hit5 >= other.hit5 and one.hit1 >= other.hit1 for one, other in zip(kept, highest, strict=True))
    assert all(case.few >= 0.99 * case.best for case in highest if case.hit5)
    assert all(case.few >= case.first >= 1 for case in kept)


def test_where_nothing_seems_good_enough_the_nearest_is_judged(table: Table) -> None:
    inside, outside = divided(table, {"m0"})
    predictor = fit(inside, QUICK)
    (problem,) = outside.problems.values()
    poor = replace(outside, trials=tuple(trial for trial in outside.trials if predictor.retained(problem, [trial.setting])[0] < 0.6))
    lucky = tuple(replace(trial, quality=problem.original) for trial in poor.trials)
    assert all(case.hit5 and case.first == case.few for case in accuracy_cases(replace(poor, trials=lucky), predictor))
    worst = min(poor.trials, key=lambda trial: predictor.retained(problem, [trial.setting])[0])
    hidden = tuple(replace(trial, quality=problem.original if trial == worst else problem.trivial) for trial in poor.trials)
    assert not any(case.hit5 for case in accuracy_cases(replace(poor, trials=hidden), predictor))


def test_a_new_method_is_not_trained_on(table: Table) -> None:
    few, _ = divided(table, {"m3", "m4", "m5"})
    found = list(new_methods(few, QUICK))
    assert len(found) == 9
    for fold in found:
        (left_out,) = set.intersection(*({trial.setting.pruner, trial.setting.quantizer} for trial in fold.outside.trials))
        assert all(left_out not in (setting.pruner, setting.quantizer) for setting in fold.predictor.settings)
        assert len(fold.inside.trials) + len(fold.outside.trials) == len(few.trials)


def test_every_trial_is_of_one_pair(table: Table) -> None:
    parts = by_pair(table)
    assert sum(len(part.trials) for part in parts.values()) == len(table.trials)
    assert all({(t.setting.pruner, t.setting.quantizer) for t in part.trials} == {key} for key, part in parts.items())


def test_no_test_architecture_is_trained_on(table: Table) -> None:
    models = sorted(problem.model for problem in table.problems.values())
    for held in splits(models, 5):
        inside, outside = divided(table, held)
        assert {problem.model for problem in outside.problems.values()} == held
        assert not held & {problem.model for problem in fit(inside, QUICK).problems}
        assert len(inside.trials) + len(outside.trials) == len(table.trials)
    assert by_prediction(fit(table, QUICK)) is not None


def test_the_bound_is_lemma_3_1() -> None:
    assert erm_bound(12, 40, 0.05) == pytest.approx(math.sqrt(2 / 12 * math.log(40 / 0.05)))


def test_a_table_too_small_for_a_figure_leaves_it_out(table: Table) -> None:
    last = {trial.problem: trial for trial in table.trials if trial.setting.compression > 3}
    metrics = cross_validated(replace(table, trials=tuple(last.values())), QUICK, count=2)
    assert metrics["predicted"].tau is None
    assert metrics["predicted"].top5 == 1
    json.dumps({name: asdict(one) for name, one in metrics.items()}, allow_nan=False)
