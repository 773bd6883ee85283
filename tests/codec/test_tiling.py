from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compresskit.codec.tiling import Tiling, cut, place, tiling

SPATIAL = st.lists(st.integers(1, 12), min_size=1, max_size=3).map(tuple)


@st.composite
def tilings(draw: st.DrawFn) -> Tiling:
    spatial = draw(SPATIAL)
    patch = draw(st.one_of(st.just(()), st.tuples(*(st.integers(1, 30) for _ in spatial))))
    return tiling(spatial, patch)


@given(tilings(), st.integers(1, 3), st.integers(1, 3), st.integers(1, 5))
def test_what_was_cut_is_put_together_again(tiles: Tiling, frames: int, channels: int, run: int) -> None:
    values = np.arange(frames * math.prod(tiles.spatial) * channels).reshape(frames, *tiles.spatial, channels)
    patches = cut(values, tiles)
    assert patches.shape == (frames * tiles.patches, tiles.points, channels)
    restored = np.full_like(values, -1)
    for first in range(0, len(patches), run):
        place(patches[first : first + run], tiles, first, restored)
    np.testing.assert_array_equal(restored, values)


@given(tilings())
def test_patches_cover_the_frame_and_none_lies_beyond_it(tiles: Tiling) -> None:
    for size, edge, count in zip(tiles.spatial, tiles.edges, tiles.counts, strict=True):
        assert (count - 1) * edge < size <= count * edge


@given(SPATIAL)
def test_without_edges_a_frame_is_one_patch(spatial: tuple[int, ...]) -> None:
    assert tiling(spatial, ()) == Tiling(spatial, spatial, (1,) * len(spatial))


def test_edges_are_about_those_wanted_and_waste_little() -> None:
    assert tiling((100,), (32,)) == Tiling((100,), (34,), (3,))
    assert tiling((5,), (2**62,)) == Tiling((5,), (5,), (1,))


def test_beyond_the_frame_its_edge_goes_on() -> None:
    np.testing.assert_array_equal(cut(np.array([[[1], [2], [3]]]), Tiling((3,), (2,), (2,)))[..., 0], [[1, 2], [3, 3]])
