"""What drove a prediction: gain over all trees, and Shapley values of one setting (Lundberg et al. 2020, as XGBoost computes them)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compresskit.recommend.predictor import Predictor
from compresskit.recommend.settings import Setting
from compresskit.recommend.table import Problem
from compresskit.recommend.trees import contributions
from compresskit.recommend.vectors import names, vectors


@dataclass(frozen=True)
class Drive:
    """One feature.

    Attributes:
        gain: its share of what all splits gain, in [0, 1].
        shap: what it adds to the retained part that is expected of the setting.
    """

    feature: str
    gain: float
    shap: float


def drives(predictor: Predictor, problem: Problem, setting: Setting) -> tuple[Drive, ...]:
    """Every feature that counts for something, the largest Shapley value first. Shapley values and the bias add up to the prediction."""
    columns = names(predictor.scaling)
    gains = predictor.booster.get_score(importance_type="total_gain")
    total = sum(_number(value) for value in gains.values()) or 1.0
    (row,) = vectors(problem, [setting], predictor.scaling)
    values = contributions(predictor.booster, row, columns, predictor.config)
    found = [Drive(name, _number(gains.get(name, 0.0)) / total, float(value)) for name, value in zip(columns, values, strict=True)]
    return tuple(sorted((drive for drive in found if drive.gain or drive.shap), key=lambda drive: -abs(drive.shap)))


def _number(value: float | Sequence[float]) -> float:
    return float(np.sum(value))
