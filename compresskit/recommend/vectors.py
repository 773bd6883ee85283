"""One row of numbers for the predictor: a problem and a setting (appendix B.1). NaN is a feature that is not known; trees take it as it is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from compresskit.recommend.features import KEPT, ROUNDED
from compresskit.recommend.settings import NONE, PRUNERS, QUANTIZERS, Setting
from compresskit.recommend.table import Problem

FLOAT_DECIBELS = 100.0
SETTING_NAMES = (
    *(f"pruner_{name}" for name in PRUNERS),
    *(f"quantizer_{name}" for name in QUANTIZERS),
    "sparsity",
    "bits",
    "log_compression",
    "energy",
    "channel_energy",
    "rounding_db",
)
"""The last three are of the problem and the setting together: what this pruner and these bits would leave of these weights."""


@dataclass(frozen=True)
class Scaling:
    """Maps each feature of a problem to [0, 1], as seen in training; other problems may fall outside.

    Attributes:
        names: of the features, in the order of the columns.
        low, high: of each; one that never varied has width 0 and becomes 0.
    """

    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __call__(self, problem: Problem) -> np.ndarray:
        """(features,) float32."""
        values = np.array([problem.features.get(name, math.nan) for name in self.names])
        width = np.array(self.high) - np.array(self.low)
        return np.where(width > 0, (values - np.array(self.low)) / np.where(width > 0, width, 1.0), values * 0.0).astype(np.float32)


def fit_scaling(problems: Iterable[Problem], names: Sequence[str] | None = None) -> Scaling:
    """The ranges of all features that `problems` have, or of those in `names`."""
    problems = list(problems)
    names = names if names is not None else sorted({name for problem in problems for name in problem.features})
    values = np.array([[problem.features.get(name, math.nan) for name in names] for problem in problems]).reshape(len(problems), len(names))
    known = np.isfinite(values).any(0)
    low = [float(np.nanmin(column)) if ok else 0.0 for column, ok in zip(values.T, known, strict=True)]
    high = [float(np.nanmax(column)) if ok else 0.0 for column, ok in zip(values.T, known, strict=True)]
    return Scaling(tuple(names), tuple(low), tuple(high))


def vectors(problem: Problem, settings: Sequence[Setting], scaling: Scaling) -> np.ndarray:
    """(settings, features) float32: columns of the problem, then SETTING_NAMES."""
    return np.column_stack([np.tile(scaling(problem), (len(settings), 1)), np.stack([_setting(problem, setting) for setting in settings])])


def names(scaling: Scaling) -> tuple[str, ...]:
    """Of the columns of `vectors`."""
    return (*scaling.names, *SETTING_NAMES)


def _setting(problem: Problem, setting: Setting) -> np.ndarray:
    kept = 1 - setting.sparsity
    return np.array(
        [
            *(setting.pruner == name for name in PRUNERS),
            *(setting.quantizer == name for name in QUANTIZERS),
            setting.sparsity,
            min(setting.bits, 16) / 16,
            math.log2(setting.compression) / 10,
            _energy(problem, "kept_energy", kept),
            _energy(problem, "kept_channels", kept),
            _decibels(problem, setting),
        ],
        np.float32,
    )


def _energy(problem: Problem, kind: str, kept: float) -> float:
    """Fraction of the energy that is left where `kept` of the parameters are, between the fractions that were noted."""
    if kept >= 1:
        return 1.0
    noted = [problem.features.get(f"{kind}_{fraction:g}", math.nan) for fraction in KEPT]
    return float(np.interp(kept, (0.0, *KEPT, 1.0), (0.0, *noted, 1.0)))


def _decibels(problem: Problem, setting: Setting) -> float:
    if setting.quantizer == NONE:
        return 1.0
    noted = [problem.features.get(f"rounding_db_{bits}", math.nan) for bits in ROUNDED]
    return float(np.interp(setting.bits, ROUNDED, noted)) / FLOAT_DECIBELS
