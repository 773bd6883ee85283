from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.codec.base import Base
from compresskit.codec.coinpp import decode_signal, fit_signal, layout, quantize_signal
from compresskit.codec.coordinates import grid
from compresskit.codec.patchcode import FIT_POINTS, PatchCodes, at_a_time, fit_points, join, quantize_patches, reconstruct, split
from compresskit.codec.quantize import LATENT_FRACTION

LATENTS = 4


@st.composite
def codes(draw: st.DrawFn, least: int = 0) -> PatchCodes:
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    constant = random.random(draw(st.integers(least, 40))) < draw(st.sampled_from([0, 0.3, 1]))
    count = int(constant.sum())
    latents = random.integers(-(2**20), 2**20, (len(constant) - count, LATENTS)).astype(np.int32)
    return PatchCodes(constant, random.integers(0, 65536, (count, 3)), latents)


def assert_equal(one: PatchCodes, other: PatchCodes) -> None:
    np.testing.assert_array_equal(one.constant, other.constant)
    np.testing.assert_array_equal(one.colours, other.colours)
    np.testing.assert_array_equal(one.latents, other.latents)


@given(codes(1), st.integers(1, 50))
def test_what_was_split_is_joined(patches: PatchCodes, size: int) -> None:
    parts = list(split(patches, size))
    assert all(len(part) == len(part.colours) + len(part.latents) <= size for part in parts)
    assert_equal(join(parts), patches)


@given(codes(1), st.integers(0, 2**32))
def test_only_what_is_wanted_is_kept(patches: PatchCodes, seed: int) -> None:
    wanted = np.random.default_rng(seed).random(len(patches)) < 0.5
    found = patches.only(wanted)
    assert len(found) == len(patches) == len(found.colours) + len(found.latents)
    for index, one, other in zip(range(len(patches)), split(found, 1), split(patches, 1), strict=True):
        if wanted[index]:
            assert_equal(one, other)
        else:
            assert one.constant.all()
            assert not one.colours.any()


def test_a_fit_looks_at_the_same_points_every_time() -> None:
    assert fit_points(FIT_POINTS) == slice(None)
    chosen = fit_points(2 * FIT_POINTS)
    np.testing.assert_array_equal(chosen, fit_points(2 * FIT_POINTS))
    assert len(np.unique(chosen)) == FIT_POINTS


def integers(latents: np.ndarray) -> np.ndarray:
    return np.rint(np.ldexp(latents.astype(float), LATENT_FRACTION)).astype(np.int32)


def test_reconstruction_is_patch_by_patch_the_same(either: Base) -> None:
    random = np.random.default_rng(1)
    constant = np.arange(20) % 3 == 0
    latents = either.centers + integers(random.normal(0, 0.2, (13, either.latents)))
    patches = PatchCodes(constant, random.integers(0, 999, (7, 3)), latents.astype(np.int32))
    whole = reconstruct(either, patches, grid((5, 4)), 256)
    single = [reconstruct(either, part, grid((5, 4)), 256) for part in split(patches, 1)]
    np.testing.assert_array_equal(whole, np.concatenate(single))
    np.testing.assert_array_equal(whole[constant][:, 0], np.minimum(patches.colours, 255))
    assert len(np.unique(whole[~constant])) > 20


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 9, 20, 4), (3, 17, 5, 1), (2, 8, 8, 2)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_signal_is_coded_better_than_by_its_mean(make_either: Callable[[int, int], Base], shape: tuple[int, ...], channels: int) -> None:
    base, lay = make_either(2, channels), layout(shape, 256, (8,))
    levels = np.rint(120 + 90 * np.sin(np.add.outer(np.arange(shape[0]), np.indices(shape[1:]).sum(axis=0)) / 2)).astype(np.int64)
    latents = fit_signal(base, levels, lay, 6)
    found = quantize_signal(base, integers(latents), levels, lay)
    assert (len(found), latents.shape) == (lay.patches(base), (len(found), base.latents))
    decoded = decode_signal(base, found, lay)
    assert decoded.shape == shape
    assert found.constant.all() == (shape[1] == 1)
    assert shape[1] == 1 or np.square(decoded - levels).mean() < (0.7 if channels == 1 else 1) * levels.var()
    flat = np.full(shape, 77)
    np.testing.assert_array_equal(decode_signal(base, quantize_signal(base, integers(latents), flat, lay), lay), flat)


def test_patches_of_more_colours_than_one_are_what_the_network_makes(colour_base: Base) -> None:
    """Even where one would be nearer: it would change what is predicted of patches next to them."""
    patches = np.full((3, 16, 3), 100)
    patches[1, 4:] += 1
    patches[2] = [7, 8, 9]
    latents = np.tile(colour_base.centers, (3, 1)).astype(np.int32)
    found = quantize_patches(colour_base, latents, patches, grid((4, 4)), 256)
    np.testing.assert_array_equal(found.constant, [True, False, True])
    np.testing.assert_array_equal(found.colours, [[100] * 3, [7, 8, 9]])
    np.testing.assert_array_equal(found.latents, latents[1:2])


def test_patches_are_of_one_colour_where_that_was_nearer_under_base_networks_with_tables(former_base: Base) -> None:
    random = np.random.default_rng(0)
    latents = integers(random.normal(0, 0.2, (40, former_base.latents)))
    made = reconstruct(former_base, PatchCodes(np.zeros(40, np.bool_), np.empty((0, 3), np.int64), latents), grid((4, 4)), 256).astype(np.int64)
    colours = random.integers(60, 200, (40, 1, 3))
    patches = np.where(random.random((40, 1, 1)) < 0.5, made, colours) + random.integers(-3, 4, made.shape)
    found = quantize_patches(former_base, latents, patches, grid((4, 4)), 256)
    means = (2 * patches.sum(axis=1) + 16) // 32
    nearer = np.square(patches - means[:, None]).sum(axis=(1, 2)) <= np.square(patches - made).sum(axis=(1, 2))
    assert 5 < nearer.sum() < 35
    np.testing.assert_array_equal(found.constant, nearer)
    np.testing.assert_array_equal(found.colours, means[nearer])
    np.testing.assert_array_equal(found.latents, latents[~nearer])


def test_no_more_is_reconstructed_at_a_time_than_memory_takes(colour_base: Base) -> None:
    for points in (1, 100, 10**4, 10**8):
        count = at_a_time(colour_base, points)
        assert count == 1 or count * points * colour_base.channels <= 2**22
