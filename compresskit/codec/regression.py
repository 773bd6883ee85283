"""Weighted sums that the encoder fits and the decoder is told. Fits are in floating point: they decide how small a stream is, never what it says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WEIGHT_BITS = 12
"""Bits after the binary point of a weight of a linear prediction."""

_LARGEST_WEIGHT = 4 << WEIGHT_BITS
_SAMPLES = 1 << 15
_RIDGE = 1e-8
_SMALLEST_SCALE, _LARGEST_SCALE = 0.05, 64.0


def fit_weights(regressors: Sequence[NDArray[np.int64]], target: NDArray[np.int64], features: Sequence[NDArray[np.int64]] = ()) -> NDArray[np.int64]:
    """Integer weights (K,) in units of 2**-WEIGHT_BITS such that the weighted sum of the K `regressors` (any shape) is near `target`.

    Least squares twice, the second time with less weight on what was far off: coding costs the logarithm of an error. Where
    `features` of the expected error are given, an error counts relative to what they make expect.
    """
    matrix, wanted = _sample(regressors), _sample([target])[:, 0]
    expected = _activity(_sample(features)) if features else np.ones(len(wanted))
    weights = _solve(matrix, wanted, 1 / (expected + _SMALLEST_SCALE) ** 2)
    errors = np.abs(wanted - matrix @ weights)
    scales = expected * errors.mean() + 0.5
    weights = _solve(matrix, wanted, 1 / (scales * (errors + scales / 2)))
    return np.clip(np.rint(np.ldexp(weights, WEIGHT_BITS)), -_LARGEST_WEIGHT, _LARGEST_WEIGHT).astype(np.int64)


def fit_scale(features: Sequence[NDArray[np.int64]], magnitudes: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Integer weights (K,), none negative, in units of 2**-`bits`, such that the weighted sum of `features` is the mean of `magnitudes`."""
    matrix, wanted = _sample(features), _sample([magnitudes])[:, 0]
    averages = matrix.mean(axis=0)
    kept = np.flatnonzero(averages)
    expected = _activity(matrix) * wanted.mean()
    weights = np.zeros(len(features))
    for _ in range(len(kept) + 2):
        weights[kept] = _solve(matrix[:, kept], wanted, 1 / (expected + _SMALLEST_SCALE) ** 2)
        shares = weights * averages
        if shares.min() < 0:  # drop the worst, and fit the others again
            kept = kept[kept != shares.argmin()]
            weights[shares.argmin()] = 0
        else:
            expected = matrix @ weights
    return np.rint(np.ldexp(np.clip(weights, 0, _LARGEST_SCALE), bits)).astype(np.int64)


def sum_of(arrays: Sequence[NDArray[np.integer]]) -> NDArray[np.int64]:
    """The sum of `arrays`, all of one shape."""
    total = arrays[0].astype(np.int64)
    for array in arrays[1:]:
        total += array
    return total


def weighted_sum(arrays: Sequence[NDArray[np.integer]], weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum of `arrays`, all of one shape, times `weights`."""
    total = arrays[0] * weights[0]
    for array, weight in zip(arrays[1:], weights[1:], strict=True):
        if weight:
            total += array * weight
    return total


def _activity(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of all `features` (N, K), each relative to its own mean: (N,)."""
    averages = features.mean(axis=0)
    return (features[:, averages > 0] / averages[averages > 0]).mean(axis=1, dtype=np.float64)


def _sample(arrays: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Some of the entries of all `arrays`, the same of each, as columns."""
    stride = max(1, arrays[0].size // _SAMPLES)
    return np.stack([array.reshape(-1)[::stride] for array in arrays], axis=1).astype(np.float64)


def _solve(matrix: NDArray[np.float64], wanted: NDArray[np.float64], importance: NDArray[np.float64]) -> NDArray[np.float64]:
    weighted = matrix * importance[:, None]
    gram = weighted.T @ matrix
    gram[np.diag_indices_from(gram)] *= 1 + _RIDGE
    gram[np.diag_indices_from(gram)] += _RIDGE  # features that are zero throughout
    return np.linalg.solve(gram, weighted.T @ wanted).astype(np.float64)
