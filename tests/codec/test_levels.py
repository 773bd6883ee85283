from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.codec.exact import IntegerLayer, IntegerNetwork, evaluate, evaluate_outputs, grid
from compresskit.codec.levels import bounds, from_levels, rendered, to_levels
from compresskit.codec.signal import Scale

INTEGERS = ["u1", "i1", "u2", "i2"]
DTYPES = [*INTEGERS, "u4", "i4", "u8", "i8", "f2", "f4", "f8", "b1"]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_samples_of_up_to_16_bits_are_their_own_levels(dtype: str) -> None:
    bound = np.iinfo(dtype)
    values = np.arange(bound.min, bound.max + 1).astype(dtype)
    scale = Scale(float(bound.min), 1.0, len(values))
    levels = to_levels(values, scale)
    np.testing.assert_array_equal(levels, np.arange(len(values)))
    np.testing.assert_array_equal(from_levels(levels.astype(np.uint16), scale, np.dtype(dtype)), values)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e3), st.integers(1, 65536), st.data())
def test_levels_of_floats_come_back(low: float, step: float, count: int, data: st.DataObject) -> None:
    scale = Scale(low, step, count)
    levels = np.array(data.draw(st.lists(st.integers(0, count - 1), max_size=20)), np.int64)
    np.testing.assert_array_equal(to_levels(from_levels(levels, scale, np.dtype("f8")), scale), levels)


def test_samples_beyond_the_levels_take_the_nearest_one() -> None:
    np.testing.assert_array_equal(to_levels(np.array([-1e300, 4, 1e300]), Scale(0.0, 2.0, 11)), [0, 2, 10])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("low", [-1e300, 0.0, 1e300])
def test_what_a_dtype_cannot_hold_becomes_what_it_can(dtype: str, low: float) -> None:
    kind = np.dtype(dtype)
    samples = from_levels(np.array([0, 65535], np.uint16), Scale(low, 1e295, 65536), kind)
    assert samples.dtype == kind
    assert np.isfinite(samples.astype(np.float64)).all()
    least, greatest = bounds(kind)
    assert (samples.astype(np.float64) >= least).all()
    assert (samples.astype(np.float64) <= greatest).all()
    if low > 0:
        assert float(samples[1]) == pytest.approx(greatest) or dtype == "f8"


def test_more_levels_than_are_converted_at_once() -> None:
    levels = (np.arange(2**20 + 7) % 65536).astype(np.uint16).reshape(1, -1, 1)
    np.testing.assert_array_equal(from_levels(levels, Scale(5.0, 0.5, 65536), np.dtype("f8")), 5 + levels / 2)


def test_rendering_in_parts_is_evaluation() -> None:
    draw = np.random.default_rng(0)
    sizes = [(4, 1), (4, 4), (2, 4)]
    network = IntegerNetwork(tuple(IntegerLayer(draw.integers(-999, 999, size), draw.integers(-999, 999, size[0]), 8) for size in sizes))
    shifts = draw.integers(-(2**20), 2**20, (600, 2, 4))
    coordinates = grid((900,))  # two parts
    assert_rendered(lambda points: evaluate(network, points, shifts, 300), coordinates, 600)
    assert_rendered(lambda points: evaluate(network, points, None, 300), coordinates, 1)
    outputs = draw.integers(-999, 999, (600, 2, 5))
    assert_rendered(lambda points: evaluate_outputs(network, points, outputs, 300), coordinates, 600)


def assert_rendered(evaluated: Callable[[np.ndarray], np.ndarray], coordinates: np.ndarray, patches: int) -> None:
    sizes = []

    def counted(points: np.ndarray) -> np.ndarray:
        sizes.append(len(points))
        return evaluated(points)

    found = rendered(counted, coordinates, patches, 2)
    np.testing.assert_array_equal(found, evaluated(coordinates))
    assert len(sizes) == (2 if patches > 1 else 1)
    assert (sum(sizes), found.dtype) == (len(coordinates), np.uint16)
