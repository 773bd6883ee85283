from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.codec.coordinates import grid, sphere
from compresskit.codec.sines import ACTIVATION_BITS, SINE_BITS, sine
from compresskit.errors import InputError

UNIT = 2**ACTIVATION_BITS


def _centre(index: int, size: int) -> int:
    return math.floor((Fraction(2 * index + 1, size) - 1) * UNIT + Fraction(1, 2))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple), st.integers(1, 2))
def test_a_grid_holds_the_centres_of_its_cells(edges: tuple[int, ...], scale: int) -> None:
    sizes = [edge * scale for edge in edges]
    expected = [[_centre(i, n) for i, n in zip(index, sizes, strict=True)] for index in itertools.product(*map(range, sizes))]
    assert grid(edges, scale).tolist() == expected


@given(st.integers(1, 5000))
def test_a_grid_stays_within_its_bounds(edge: int) -> None:
    points = grid((edge,))[:, 0]
    assert points.min() >= -UNIT
    assert points.max() <= UNIT
    assert (np.diff(points) > 0).all()


def test_points_lie_on_the_sphere() -> None:
    latitudes, longitudes = np.linspace(-90, 90, 19), np.linspace(0, 360, 24, endpoint=False)
    lat, lon = (axis.reshape(-1) for axis in np.meshgrid(np.radians(latitudes), np.radians(longitudes), indexing="ij"))
    expected = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1) * UNIT
    assert np.abs(sphere(latitudes, longitudes) - expected).max() < 0.501


def test_a_turn_comes_back_to_where_it_began() -> None:
    ends, zero = np.array([-180.0, 180.0]), np.zeros(1)
    assert sphere(zero, ends).tolist() == [[-UNIT, 0, 0]] * 2
    assert sphere(np.array([90.0]), ends).tolist() == [[0, 0, UNIT]] * 2


@pytest.mark.parametrize("angle", [math.nan, math.inf, 361.0, -1e300])
def test_what_is_no_angle_is_refused(angle: float) -> None:
    with pytest.raises(InputError, match="not a number from -360 to 360: axes must be in degrees"):
        sphere(np.zeros(2), np.array([0, angle]))


@given(st.integers(-(2**30), 2**30), st.integers(3, 30))
def test_the_sine_is_right_to_the_precision_of_a_float(phase: int, bits: int) -> None:
    exact = math.sin(2 * math.pi * (phase % 2**bits) / 2**bits)
    assert sine(phase, bits) / 2**SINE_BITS == pytest.approx(exact, abs=1e-15)
