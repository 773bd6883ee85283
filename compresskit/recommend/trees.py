"""Gradient-boosted trees (Chen and Guestrin 2016) from rows of features to the part of the quality that is retained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from compresskit.recommend.vectors import SETTING_NAMES, TRENDS

if TYPE_CHECKING:
    import xgboost

LOWEST, HIGHEST = -0.5, 1.2
"""Retained parts outside say nothing more: a network that is worse than a constant answer."""
_FLOOR, _CEILING = -0.1, 1.1
FEW_FEATURES = ("loss", "gradient_l0", "gradient_l1", "log_macs", "log_parameters", "macs_a_parameter")
"""With a dozen architectures, more features than architectures tell them apart by chance."""


@dataclass(frozen=True)
class TreeConfig:
    """How trees are grown; the defaults are appendix B.1's.

    Attributes:
        trees: rounds of boosting.
        rate: that each round counts.
        subsample, columns: fractions of the rows and of the columns that each tree sees.
        least: rows in a leaf, each counted by its curvature.
        ordered: whether predictions never rise with the sparsity, never fall with the bits, and so on (`vectors.TRENDS`).
        bounded: whether trees add up in log-odds, between a floor and a ceiling: most settings either leave nearly all or nearly nothing.
        lean: whether of a problem only FEW_FEATURES count, beside what the columns of settings make of the others.
    """

    trees: int = 100
    depth: int = 10
    rate: float = 0.3
    subsample: float = 1.0
    columns: float = 1.0
    least: float = 1.0
    ordered: bool = False
    bounded: bool = False
    lean: bool = False
    seed: int = 0


PAPER = TreeConfig()
BOUNDED = TreeConfig(trees=400, depth=5, rate=0.04, subsample=0.7, columns=0.4, least=0.5, ordered=True, bounded=True)
CHOICES = (PAPER, BOUNDED, replace(BOUNDED, columns=0.7, lean=True))
"""What a fit chooses from."""


def grow(rows: np.ndarray, retained: np.ndarray, columns: Sequence[str], config: TreeConfig) -> xgboost.Booster:
    """Fit trees to `rows` (N, columns) and `retained` (N,); the same ones everywhere."""
    import xgboost

    if config.lean:  # no tree splits where nothing is known
        rows = rows.copy()
        rows[:, [name not in (*FEW_FEATURES, *SETTING_NAMES) for name in columns]] = np.nan
    targets = np.clip(retained, LOWEST, HIGHEST)
    if config.bounded:
        targets = np.clip((targets - _FLOOR) / (_CEILING - _FLOOR), 0, 1)
    settings = {
        "max_depth": config.depth,
        "eta": config.rate,
        "subsample": config.subsample,
        "colsample_bytree": config.columns,
        "min_child_weight": config.least,
        "monotone_constraints": {name: TRENDS[name] for name in columns if config.ordered and name in TRENDS},
        "seed": config.seed,
        "tree_method": "hist",
        "nthread": 1,  # sums in one order
        "objective": "reg:logistic" if config.bounded else "reg:squarederror",
    }
    return xgboost.train(settings, xgboost.DMatrix(rows, targets, feature_names=list(columns)), config.trees)


def retained_parts(booster: xgboost.Booster, rows: np.ndarray, config: TreeConfig) -> np.ndarray:
    """(N,) what `booster` says of `rows`."""
    return np.clip(_unbounded(booster.inplace_predict(rows, validate_features=False), config), LOWEST, HIGHEST)


def contributions(booster: xgboost.Booster, row: np.ndarray, columns: Sequence[str], config: TreeConfig) -> np.ndarray:
    """(columns,) Shapley values (Lundberg et al. 2020) of one row, in retained parts; with a constant they add up to the prediction.

    Those of log-odds are scaled to what they change together.
    """
    import xgboost

    found = booster.predict(xgboost.DMatrix(row[None], feature_names=list(columns)), pred_contribs=True)[0].astype(np.float64)
    values, bias = found[:-1], found[-1]
    if not config.bounded:
        return values
    total = values.sum()
    ends = [_unbounded(1 / (1 + np.exp(-odds)), config) for odds in (bias, bias + total)]
    return values * ((ends[1] - ends[0]) / total) if total else values * 0.0


def _unbounded(values: np.ndarray, config: TreeConfig) -> np.ndarray:
    return _FLOOR + (_CEILING - _FLOOR) * values if config.bounded else values
