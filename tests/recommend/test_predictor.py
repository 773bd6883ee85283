"""Predictions, their intervals, and predictors as files."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compresskit.errors import InputError
from compresskit.recommend.evaluate import divided
from compresskit.recommend.explain import drives
from compresskit.recommend.novelty import novelty
from compresskit.recommend.predictor import Predictors, conformal, fit, fit_both, folds
from compresskit.recommend.predictor_file import read_predictors, write_predictors
from compresskit.recommend.settings import Setting
from compresskit.recommend.table import Problem, Table
from compresskit.recommend.trees import BOUNDED, CHOICES, FEW_FEATURES, TreeConfig
from compresskit.recommend.vectors import SETTING_NAMES

QUICK = TreeConfig(trees=60, depth=5, rate=0.15)


@pytest.fixture(scope="module")
def predictors(table: Table) -> Predictors:
    return fit_both(table, QUICK)


def test_predictions_for_a_new_architecture_are_near_and_ordered(table: Table) -> None:
    inside, outside = divided(table, {"m0"})
    problem = outside.problems["m0/d"]
    found = fit(inside, QUICK).predict(problem, [trial.setting for trial in outside.trials])
    errors = [abs(one.quality - trial.quality) for one, trial in zip(found, outside.trials, strict=True)]
    assert np.mean(errors) < 0.06
    assert all(one.low <= one.quality <= one.high for one in found)


def test_the_same_table_gives_the_same_predictor(table: Table, predictors: Predictors) -> None:
    problem = next(iter(table.problems.values()))
    settings = [trial.setting for trial in table.trials[:50]]
    np.testing.assert_array_equal(fit(table, QUICK).retained(problem, settings), predictors.informed.retained(problem, settings))


def test_the_trees_are_those_that_cross_validation_finds_best(table: Table) -> None:
    few, _ = divided(table, {"m3", "m4", "m5"})
    found = fit(few)
    assert found.config in CHOICES
    assert found.margins == fit(few, found.config).margins


def test_ordered_trees_never_gain_by_harder_settings(table: Table) -> None:
    problem = next(iter(table.problems.values()))
    predictor = fit(table, replace(BOUNDED, trees=20))
    milder = predictor.retained(problem, [Setting("l1", "lsq", sparsity, 8) for sparsity in (0.3, 0.5, 0.75, 0.9)])
    finer = predictor.retained(problem, [Setting("l1", "lsq", 0.5, bits) for bits in (8, 6, 4, 3, 2)])
    assert (np.diff(milder) <= 1e-6).all()
    assert (np.diff(finer) <= 1e-6).all()


def test_lean_trees_split_on_few_features_of_the_problem(table: Table) -> None:
    predictor = fit(table, replace(BOUNDED, trees=20, lean=True))
    assert "depth" in predictor.scaling.names
    assert set(predictor.booster.get_score()) <= {*FEW_FEATURES, *SETTING_NAMES}


def test_an_accuracy_is_expected_between_nothing_and_all(table: Table, predictors: Predictors) -> None:
    wide = replace(predictors.informed, margins=replace(predictors.informed.margins, widths=tuple(9.0 for _ in predictors.informed.margins.widths)))
    problem = next(iter(table.problems.values()))
    assert all((found.low, found.high) == (0.0, 1.0) for found in wide.predict(problem, predictors.informed.settings))


def test_a_problem_without_data_goes_to_the_blind_predictor(table: Table, predictors: Predictors) -> None:
    problem = next(iter(table.problems.values()))
    assert predictors.for_problem(problem) is predictors.informed
    blind = replace(problem, features={**problem.features, "loss": math.nan})
    assert predictors.for_problem(blind) is predictors.blind
    assert "loss" not in predictors.blind.scaling.names


def test_margins_cover_what_they_say() -> None:
    rng = np.random.default_rng(0)
    pairs = [(float(compression), abs(float(rng.normal())) * compression) for compression in rng.uniform(1, 100, 4000)]
    margins = conformal(pairs[:2000])
    places = np.digitize([compression for compression, _ in pairs[2000:]], margins.edges)
    inside = [size <= margins.widths[place] for (_, size), place in zip(pairs[2000:], places, strict=True)]
    assert 0.87 < np.mean(inside) < 0.93
    assert list(margins.widths) == sorted(margins.widths)


def test_every_model_is_held_out_once() -> None:
    models = [f"m{index}" for index in range(7)]
    parts = folds(models, 3, seed=1)
    assert sorted(name for part in parts for name in part) == models


def test_few_architectures_are_refused(table: Table) -> None:
    few, _ = divided(table, {"m0", "m1", "m2", "m3"})
    with pytest.raises(InputError, match="those of 2"):
        fit(few)
    untried = {name: replace(table.problems["m0/d"], name=name, model=name) for name in ("x", "y")}
    with pytest.raises(InputError, match="those of 2"):
        fit(replace(few, problems={**few.problems, **untried}))


@pytest.mark.parametrize("config", [QUICK, replace(BOUNDED, trees=60, rate=0.15)], ids=["identity", "log-odds"])
def test_shapley_values_add_up_to_the_prediction(table: Table, config: TreeConfig) -> None:
    predictor = fit(table, config)
    problem, setting = next(iter(table.problems.values())), table.trials[100].setting
    found = drives(predictor, problem, setting)
    assert sum(drive.gain for drive in found) == pytest.approx(1, abs=1e-4)
    other = drives(predictor, problem, table.trials[7].setting)
    difference = sum(drive.shap for drive in found) - sum(drive.shap for drive in other)
    expected = np.diff(predictor.retained(problem, [table.trials[7].setting, setting]))[0]
    assert difference == pytest.approx(expected, abs=1e-4)


def test_bounded_trees_stay_between_floor_and_ceiling(table: Table) -> None:
    predictor = fit(table, replace(BOUNDED, trees=60, rate=0.15))
    problem = next(iter(table.problems.values()))
    found = predictor.retained(problem, [trial.setting for trial in table.trials])
    assert -0.1 <= found.min() < 0.3
    assert 0.9 < found.max() <= 1.1


def test_a_known_problem_is_near_and_a_strange_one_is_not(table: Table, predictors: Predictors) -> None:
    problem = next(iter(table.problems.values()))
    known = novelty(predictors.informed, problem)
    assert (known.nearest[0], known.distances[0], known.unlike) == (problem.name, 0.0, False)
    strange = Problem("x", "x", "d", 0.9, 0.1, {name: 100.0 + value for name, value in problem.features.items()})
    assert novelty(predictors.informed, strange).unlike


def test_data_of_another_kind_are_unlike_what_is_known_even_where_they_never_varied(table: Table) -> None:
    coloured = {name: replace(problem, features={**problem.features, "channels": 3.0}) for name, problem in table.problems.items()}
    predictor = fit(replace(table, problems=coloured), replace(QUICK, trees=5))
    problem = next(iter(coloured.values()))
    assert not novelty(predictor, problem).strange
    grey = novelty(predictor, replace(problem, features={**problem.features, "channels": 1.0}))
    assert (grey.strange, grey.unlike) == (("channels",), True)


def test_a_predictor_comes_back_from_its_file(table: Table, predictors: Predictors, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    size = write_predictors(predictors, path)
    assert path.stat().st_size == size
    found = read_predictors(path)
    problem, settings = next(iter(table.problems.values())), [trial.setting for trial in table.trials[:80]]
    assert found.informed.predict(problem, settings) == predictors.informed.predict(problem, settings)
    assert found.blind.settings == predictors.blind.settings


@pytest.mark.parametrize("damage", ["schema", "flip", "format", "text", "columns"])
def test_other_and_damaged_predictors_are_refused(predictors: Predictors, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "p.json"
    write_predictors(predictors, path)
    found = json.loads(path.read_text())
    match damage:
        case "schema":
            found["schema"] = 99
        case "flip":
            found["body"]["informed"]["margins"]["widths"][0] += 1
        case "format":
            del found["format"]
        case "columns":
            found["body"]["informed"]["columns"] = []
        case "text":
            found = "nothing"
    path.write_text(json.dumps(found))
    with pytest.raises(InputError, match=r"p\.json"):
        read_predictors(path)
