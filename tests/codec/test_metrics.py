from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compresskit.codec.metrics import latitude_rmse, max_error, psnr, rmse, snr_db

PAIRS = st.sampled_from(["u1", "i2", "u2", "i4", "f4", "f8"]).flatmap(
    lambda dtype: st.tuples(
        *[hnp.arrays(dtype, (2, 3, 4, 1), elements={"allow_nan": False, "min_value": 0, "max_value": 255} if dtype[0] == "f" else None)] * 2
    )
)


@given(PAIRS)
def test_values_are_those_of_exact_arithmetic(pair: tuple[np.ndarray, np.ndarray]) -> None:
    reference, decoded = ([float(value) for value in array.ravel()] for array in pair)
    errors = [a - b for a, b in zip(reference, decoded, strict=True)]
    mean_square = math.fsum(error * error for error in errors) / len(errors)
    assert rmse(*pair) == pytest.approx(math.sqrt(mean_square))
    assert max_error(*pair) == max(map(abs, errors))
    if mean_square > 1e-200:
        power = math.fsum(value * value for value in reference) / len(reference)
        assert psnr(*pair, peak=255) == pytest.approx(10 * math.log10(255**2 / mean_square))
        assert snr_db(*pair) == pytest.approx(10 * math.log10(power / mean_square) if power else -math.inf)


def test_unsigned_samples_do_not_wrap() -> None:
    black, white = np.zeros((1, 2, 2, 1), np.uint8), np.full((1, 2, 2, 1), 255, np.uint8)
    assert rmse(black, white) == max_error(black, white) == 255
    assert psnr(black, white, 255) == 0


def test_equal_samples_have_no_noise() -> None:
    x = np.ones((1, 5, 1), np.int16)
    assert (psnr(x, x, 65535), snr_db(x, x), rmse(x, x), max_error(x, x)) == (math.inf, math.inf, 0, 0)
    assert snr_db(0 * x, x) == -math.inf


def test_masked_samples_do_not_count() -> None:
    reference = np.array([1.0, np.nan, 3.0]).reshape(1, 3, 1, 1)
    decoded = np.array([1.5, 7.0, 3.0]).reshape(1, 3, 1, 1)
    mask = ~np.isnan(reference[..., 0])
    assert max_error(reference, decoded, mask) == 0.5
    assert rmse(reference, decoded, mask) == pytest.approx(math.sqrt(0.125))
    assert psnr(reference, decoded, 1.0, mask) == pytest.approx(-10 * math.log10(0.125))
    assert snr_db(reference, decoded, mask) == pytest.approx(10 * math.log10(5 / 0.125))
    assert latitude_rmse(reference, decoded, np.zeros(3), mask) == pytest.approx(math.sqrt(0.125))
    nothing = np.zeros((1, 3, 1), bool)
    assert (rmse(reference, decoded, nothing), max_error(reference, decoded, nothing)) == (0, 0)
    assert (psnr(reference, decoded, 1.0, nothing), latitude_rmse(reference, decoded, np.zeros(3), nothing)) == (math.inf, 0)


def test_areas_on_the_globe() -> None:
    reference, decoded = np.zeros((2, 3, 4, 1)), np.zeros((2, 3, 4, 1))
    decoded[:, 1] = 2.0  # on the equator; the other rows are at 60 degrees and count half each
    assert latitude_rmse(reference, decoded, np.array([60.0, 0, -60])) == pytest.approx(math.sqrt(4 * 1 / 2))
    decoded[:] = 3.0
    assert latitude_rmse(reference, decoded, np.array([90.0, 10, -45])) == pytest.approx(3)
