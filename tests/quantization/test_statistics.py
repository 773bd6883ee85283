"""Streaming statistics: one pass in pieces remembers what a look at everything would see."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.errors import InputError
from compresskit.quantization.grid import asymmetric
from compresskit.quantization.ranges import METHODS
from compresskit.quantization.statistics import BINS, Statistics

RNG = np.random.default_rng(3)


def _of(*batches: np.ndarray) -> Statistics:
    statistics = Statistics("t")
    for batch in batches:
        statistics.update(batch)
    return statistics


@given(st.lists(st.floats(0.01, 1000), min_size=1, max_size=6), st.integers(0, 2**31))
def test_growing_equals_binning_at_once(scales: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    batches = [(rng.standard_normal(500) * scale).astype(np.float32) for scale in scales]
    statistics = _of(*batches)
    everything = np.concatenate(batches)
    at_once = np.histogram(everything, BINS, (-statistics.reach, statistics.reach))[0]
    assert statistics.total == everything.size
    assert (statistics.minimum, statistics.maximum) == (min(everything.min(), 0), max(everything.max(), 0))
    # Values within rounding of an edge may fall on either side of it.
    assert np.abs(np.cumsum(statistics.counts) - np.cumsum(at_once)).max() <= everything.size / 100


def test_zeros_are_counted_apart() -> None:
    statistics = _of(np.array([0, 0, 1, -1], np.float32), np.zeros(3, np.float32))
    assert (statistics.zeros, int(statistics.counts.sum()), statistics.total) == (5, 2, 7)


def test_noise_and_clipping_are_those_of_the_values() -> None:
    values = RNG.standard_normal(200_000).astype(np.float32)
    statistics, grid = _of(values), asymmetric(-2, 2.5, 6)
    ends = grid.dequantize(np.array([grid.low, grid.high]))
    assert statistics.noise(grid) == pytest.approx(np.mean((grid.round_trip(values) - values) ** 2), rel=0.02)
    assert statistics.power() == pytest.approx(np.mean(values**2), rel=0.01)
    assert statistics.clipped(grid) == pytest.approx(np.mean((values < ends[0]) | (values > ends[1])), abs=1e-3)


def test_moving_averages_forget_an_outlier() -> None:
    calm = [np.array([-1, 1], np.float32)] * 30
    statistics = _of(np.array([-1, 100], np.float32), *calm)
    assert statistics.maximum == 100
    assert statistics.average_maximum < 6


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(InputError, match="tensor 't' is not finite"):
        _of(np.array([1, bad], np.float32))


@pytest.mark.parametrize("values", [np.zeros(10), np.zeros(0), np.full(10, 1e-38), np.array([3e38, -3e38])])
def test_odd_values_are_taken(values: np.ndarray) -> None:
    statistics = _of(values.astype(np.float32), values.astype(np.float32))
    for method in METHODS.values():
        low, high = method(statistics, 8)
        assert statistics.minimum <= low <= 0 <= high <= statistics.maximum


@given(st.integers(2, 9), st.sampled_from(list(METHODS)), st.booleans(), st.integers(0, 2**31))
def test_ranges_lie_within_what_was_seen(bits: int, method: str, positive: bool, seed: int) -> None:
    values = np.random.default_rng(seed).standard_t(3, 2000).astype(np.float32)
    statistics = _of(np.maximum(values, 0) if positive else values)
    low, high = METHODS[method](statistics, bits)
    assert statistics.minimum <= low <= 0 <= high <= statistics.maximum
    assert (low == 0) == positive
    assert high > 0


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("positive", [False, True])
def test_mse_is_the_best_of_all_in_its_own_measure(bits: int, positive: bool) -> None:
    values = np.random.default_rng(5).standard_t(4, 100_000).astype(np.float32)
    statistics = _of(np.maximum(values, 0) if positive else values)
    noise = {name: statistics.noise(asymmetric(*method(statistics, bits), bits)) for name, method in METHODS.items()}
    assert noise["mse"] <= 1.05 * min(noise.values())
    assert noise["mse"] < noise["minmax"]


def test_percentiles_are_numpy_s() -> None:
    values = RNG.standard_normal(300_000).astype(np.float32)
    low, high = METHODS["percentile"](_of(values), 8)
    assert (low, high) == pytest.approx(np.percentile(values, [0.01, 99.99]), rel=0.02)
