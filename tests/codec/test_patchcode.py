from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.codec.base import Base
from compresskit.codec.coinpp import decode_signal, fit_signal, layout, quantize_signal
from compresskit.codec.coordinates import grid
from compresskit.codec.patchcode import FIT_POINTS, PatchCodes, fit_points, join, reconstruct, split

BITS, LATENTS = 3, 4


@st.composite
def codes(draw: st.DrawFn, least: int = 0) -> PatchCodes:
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    constant = random.random(draw(st.integers(least, 40))) < draw(st.sampled_from([0, 0.3, 1]))
    count = int(constant.sum())
    symbols = random.integers(0, 1 << BITS, (len(constant) - count, LATENTS)).astype(np.int32)
    return PatchCodes(constant, random.integers(0, 65536, (count, 3)), symbols)


def assert_equal(one: PatchCodes, other: PatchCodes) -> None:
    np.testing.assert_array_equal(one.constant, other.constant)
    np.testing.assert_array_equal(one.colours, other.colours)
    np.testing.assert_array_equal(one.symbols, other.symbols)


@given(codes(1), st.integers(1, 50))
def test_what_was_split_is_joined(patches: PatchCodes, size: int) -> None:
    parts = list(split(patches, size))
    assert all(len(part) == len(part.colours) + len(part.symbols) <= size for part in parts)
    assert_equal(join(parts), patches)


def test_a_fit_looks_at_the_same_points_every_time() -> None:
    assert fit_points(FIT_POINTS) == slice(None)
    chosen = fit_points(2 * FIT_POINTS)
    np.testing.assert_array_equal(chosen, fit_points(2 * FIT_POINTS))
    assert len(np.unique(chosen)) == FIT_POINTS


def test_reconstruction_is_patch_by_patch_the_same(colour_base: Base) -> None:
    random = np.random.default_rng(1)
    constant = np.arange(20) % 3 == 0
    patches = PatchCodes(constant, random.integers(0, 999, (7, 3)), random.integers(0, 32, (13, colour_base.latents)).astype(np.int32))
    whole = reconstruct(colour_base, 5, patches, grid((5, 4)), 256)
    single = [reconstruct(colour_base, 5, part, grid((5, 4)), 256) for part in split(patches, 1)]
    np.testing.assert_array_equal(whole, np.concatenate(single))
    np.testing.assert_array_equal(whole[constant][:, 0], np.minimum(patches.colours, 255))


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 9, 20, 4), (3, 17, 5, 1), (2, 8, 8, 2)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_signal_is_coded_better_than_by_its_mean(make_base: Callable[[int, int], Base], shape: tuple[int, ...], channels: int) -> None:
    base, lay = make_base(2, channels), layout(shape, 256, (8,))
    levels = np.rint(120 + 90 * np.sin(np.add.outer(np.arange(shape[0]), np.indices(shape[1:]).sum(axis=0)) / 2)).astype(np.int64)
    latents = fit_signal(base, levels, lay, 6)
    symbols = base.quantizer(6).symbols(latents)
    found = quantize_signal(base, 6, symbols, levels, lay)
    assert (len(found), latents.shape) == (lay.patches(base), (len(found), base.latents))
    decoded = decode_signal(base, 6, found, lay)
    assert decoded.shape == shape
    assert found.constant.all() == (shape[1] == 1)
    assert shape[1] == 1 or np.square(decoded - levels).mean() < (0.7 if channels == 1 else 1) * levels.var()
    flat = np.full(shape, 77)
    np.testing.assert_array_equal(decode_signal(base, 6, quantize_signal(base, 6, symbols, flat, lay), lay), flat)
