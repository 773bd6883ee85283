from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.codec.planes import narrow, planes, widen


@given(st.integers(1, 9), st.integers(1, 4))
def test_every_channel_is_in_one_plane(channels: int, wanted: int) -> None:
    assert [channel for plane in planes(channels, wanted) for channel in range(channels)[plane]] == list(range(channels))
    assert {plane.stop - plane.start for plane in planes(channels, wanted)} <= {1, wanted}


@pytest.mark.parametrize(("channels", "wanted", "count"), [(3, 3, 1), (4, 3, 2), (2, 3, 2), (3, 1, 3), (1, 3, 1)])
def test_only_red_green_and_blue_go_together(channels: int, wanted: int, count: int) -> None:
    assert len(planes(channels, wanted)) == count


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=9), st.integers(1, 4))
def test_what_was_widened_is_narrowed_to_the_same(samples: list[int], wanted: int) -> None:
    plane = np.array(samples)[None, :, None]
    wide = widen(plane, wanted)
    assert wide.shape == (1, len(samples), wanted)
    np.testing.assert_array_equal(narrow(wide.astype(np.uint16), 1), plane)


@given(st.lists(st.integers(0, 65535), min_size=2, max_size=5))
def test_a_narrowed_plane_is_the_mean_halves_rounded_up(samples: list[int]) -> None:
    mean = np.floor(np.mean(samples) + 0.5)
    assert narrow(np.array([samples], np.uint16), 1).item() == mean
