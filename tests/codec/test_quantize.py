from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.codec.quantize import LATENT_FRACTION, UniformQuantizer, coin_sigmas, k_sigma
from compresskit.errors import InputError

ONE = 1 << LATENT_FRACTION


@given(st.integers(1, 16), st.floats(-4, 4), st.floats(1e-3, 4), st.integers(0, 2**32 - 1))
def test_a_latent_in_range_moves_by_half_a_step_at_most(bits: int, mean: float, sigma: float, seed: int) -> None:
    quantizer = k_sigma(np.array([mean]), np.array([sigma]), bits)
    low, step = int(quantizer.low[0]), int(quantizer.step[0])
    latents = np.random.default_rng(seed).uniform(low, low + (step << bits), (64, 1)) / ONE
    restored = quantizer.latents(quantizer.symbols(latents)) / ONE
    assert np.abs(restored - latents).max() * ONE <= (step + 1) / 2


@given(st.integers(1, 8))
def test_symbols_of_bin_centres_are_the_bins(bits: int) -> None:
    quantizer = k_sigma(np.array([0.0, -1.5]), np.array([1.0, 0.01]), bits)
    symbols = np.repeat(np.arange(1 << bits)[:, None], 2, axis=1)
    assert np.array_equal(quantizer.symbols(quantizer.latents(symbols) / ONE), symbols)


def test_latents_out_of_range_go_to_the_outermost_bins() -> None:
    quantizer = k_sigma(np.zeros(1), np.ones(1), 5)
    assert quantizer.symbols(np.array([[-1e30], [1e30]])).tolist() == [[0], [31]]


def test_the_bins_cover_k_deviations() -> None:
    quantizer = k_sigma(np.array([1.0]), np.array([0.5]), 5, k=4.0)
    assert quantizer.low.tolist() == [-ONE]
    assert quantizer.step.tolist() == [4 * ONE // 32]


def test_a_dimension_that_never_varies_is_kept() -> None:
    quantizer = k_sigma(np.array([0.25]), np.zeros(1), 5)
    assert quantizer.latents(quantizer.symbols(np.array([[0.25]]))).tolist() == [[ONE // 4]]


def test_coin_keeps_three_to_six_deviations() -> None:
    assert [coin_sigmas(bits) for bits in (1, 6, 16)] == [3, 4, 6]


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=["NaN", "infinity"])
def test_what_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="diverged"):
        k_sigma(np.array([value]), np.ones(1), 5)
    with pytest.raises(InputError, match="diverged"):
        k_sigma(np.zeros(1), np.ones(1), 5).symbols(np.array([[value]]))


@pytest.mark.parametrize("bits", [0, 17])
def test_bits_out_of_range_are_refused(bits: int) -> None:
    with pytest.raises(InputError, match="bits"):
        k_sigma(np.zeros(1), np.ones(1), bits)


def test_a_step_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="step"):
        UniformQuantizer(np.zeros(1, np.int64), np.zeros(1, np.int64), 5)
