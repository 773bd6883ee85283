"""The predictor that ships, and its table."""

from __future__ import annotations

from pathlib import Path

import pytest

from compresskit.recommend.config import RecommendConfig, RecommendRequest
from compresskit.recommend.constraints import Constraints
from compresskit.recommend.pipeline import run
from compresskit.recommend.predictor_file import SHIPPED, read_predictors
from compresskit.recommend.settings import PRUNERS, QUANTIZERS
from compresskit.recommend.table import read_table

SAMPLES = Path(__file__).parents[2] / "sample_data"


def test_its_table_is_the_one_that_it_was_fitted_on() -> None:
    table, predictor = read_table(SHIPPED.with_suffix("")), read_predictors(SHIPPED).informed
    assert set(predictor.settings) == {trial.setting for trial in table.trials}
    assert {problem.name for problem in predictor.problems} == set(table.problems)
    assert {setting.pruner for setting in predictor.settings} > set(PRUNERS)
    assert {setting.quantizer for setting in predictor.settings} > set(QUANTIZERS)


def test_it_is_used_unless_another_is_named() -> None:
    model, data = str(SAMPLES / "digits_resnet.pt"), str(SAMPLES / "digits.npz")
    report = run(RecommendRequest(model, RecommendConfig(Constraints(compression=20.0)), data=data, threads=1)).report
    assert report.predictor == SHIPPED.name
    assert report.unlike  # eight pixels wide, and no photographs
    assert all(found.compression >= 20 and found.low <= found.predicted <= found.high for found in report.recommended)
    expected = [found.predicted for found in report.recommended]
    assert expected == sorted(expected, reverse=True)
    assert expected[0] == pytest.approx(report.original, abs=0.2)
