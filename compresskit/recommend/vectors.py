"""One row of numbers for the predictor: a problem and a setting (appendix B.1). NaN is a feature that is not known; trees take it as it is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from compresskit.recommend.features import KEPT, ROUNDED
from compresskit.recommend.probes import PROBED_BITS, PROBED_KEPT
from compresskit.recommend.settings import NONE, PRUNERS, QUANTIZERS, Setting
from compresskit.recommend.table import Problem

FLOAT_DECIBELS = 100.0
CUTTING = ("l1", "slimming", "taylor", "l1l2")
"""Pruners that take whole channels; the others leave zeros."""
ONE_SHOT = (NONE, "level", "uniform")
"""Methods that train nothing."""
_RISING = dict.fromkeys(("bits", "energy", "channel_energy", "rounding_db", "probe_pruned", "probe_rounded", "log_left", "log_width"), 1)
SETTING_NAMES = (
    *(f"pruner_{name}" for name in PRUNERS),
    *(f"quantizer_{name}" for name in QUANTIZERS),
    "cuts",
    "tunes",
    "trains_rounding",
    "sparsity",
    "bits",
    "log_compression",
    "energy",
    "channel_energy",
    "rounding_db",
    "probe_pruned",
    "probe_rounded",
    "log_left",
    "log_width",
)
"""From `energy` on they are of the problem and the setting together: what this pruner and these bits would leave of these weights."""
TRENDS = {**_RISING, "sparsity": -1, "log_compression": -1}
"""Whether more of a column can only be better (1) or worse (-1), all others being equal."""


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
    cuts = setting.pruner in CUTTING
    width = problem.features.get("width_mean", math.nan) * (math.sqrt(kept) if cuts else 1.0)
    return np.array(
        [
            *(setting.pruner == name for name in PRUNERS),
            *(setting.quantizer == name for name in QUANTIZERS),
            cuts,
            setting.pruner not in ONE_SHOT,
            setting.quantizer not in ONE_SHOT,
            setting.sparsity,
            min(setting.bits, 16) / 16,
            math.log2(setting.compression) / 10,
            _between(problem, "kept_energy", KEPT, kept),
            _between(problem, "kept_channels", KEPT, kept),
            _decibels(problem, setting),
            _between(problem, "probe_channels" if cuts else "probe_level", PROBED_KEPT, kept),
            1.0 if setting.quantizer == NONE else _noted(problem, "probe_rounding", PROBED_BITS, setting.bits),
            (problem.features.get("log_parameters", math.nan) + math.log10(kept)) / 10,
            math.log2(max(width, 1.0)) / 10,
        ],
        np.float32,
    )


def _between(problem: Problem, kind: str, noted: Sequence[float], kept: float) -> float:
    """What is left where `kept` of the parameters are, between the fractions that were noted; all of it where all of them are."""
    if kept >= 1:
        return 1.0
    values = [problem.features.get(f"{kind}_{fraction:g}", math.nan) for fraction in noted]
    return float(np.interp(kept, (0.0, *noted, 1.0), (0.0, *values, 1.0)))


def _decibels(problem: Problem, setting: Setting) -> float:
    return 1.0 if setting.quantizer == NONE else _noted(problem, "rounding_db", ROUNDED, setting.bits) / FLOAT_DECIBELS


def _noted(problem: Problem, kind: str, noted: Sequence[int], bits: int) -> float:
    return float(np.interp(bits, noted, [problem.features.get(f"{kind}_{width}", math.nan) for width in noted]))
