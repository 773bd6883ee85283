"""The metrics of recommendations."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy.stats import kendalltau

from compresskit.recommend.evaluate import by_prediction, cross_validated, divided, erm_bound, judged, kendall, splits, static
from compresskit.recommend.predictor import fit
from compresskit.recommend.table import Problem, Table, Trial


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
    found = cross_validated(table, count=2)
    assert found["predicted"].top5 > 0.9
    assert found["predicted"].error <= found["static"].error
    assert found["predicted"].tau > 0.8
    assert 0.8 < found["predicted"].coverage <= 1
    assert found["accuracy"].top5 > 0.8


def test_the_static_strategy_is_the_best_pair_on_average_that_meets_every_constraint(table: Table) -> None:
    rank = static(table)
    problem = next(iter(table.problems.values()))
    candidates = [trial for trial in table.trials if trial.problem == problem.name and trial.setting.compression >= 20]
    found = rank(problem, candidates)
    assert {(trial.setting.pruner, trial.setting.quantizer) for trial in found} == {("level-tuned", "lsq")}
    assert [trial.setting.compression for trial in found] == sorted(trial.setting.compression for trial in found)


def test_no_test_architecture_is_trained_on(table: Table) -> None:
    models = sorted(problem.model for problem in table.problems.values())
    for held in splits(models, 5):
        inside, outside = divided(table, held)
        assert {problem.model for problem in outside.problems.values()} == held
        assert not held & {problem.model for problem in fit(inside).problems}
        assert len(inside.trials) + len(outside.trials) == len(table.trials)
    assert by_prediction(fit(table)) is not None


def test_the_bound_is_lemma_3_1() -> None:
    assert erm_bound(12, 40, 0.05) == pytest.approx(math.sqrt(2 / 12 * math.log(40 / 0.05)))


def test_a_table_too_small_for_a_figure_leaves_it_out(table: Table) -> None:
    last = {trial.problem: trial for trial in table.trials if trial.setting.compression > 3}
    metrics = cross_validated(replace(table, trials=tuple(last.values())), count=2)
    assert metrics["predicted"].tau is None
    assert metrics["predicted"].top5 == 1
    json.dumps({name: asdict(one) for name, one in metrics.items()}, allow_nan=False)
