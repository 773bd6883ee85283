"""What a quality means for signals of any size."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.codec.base import Base
from compresskit.codec.config import EFFORTS, LATENT_BITS, EncodeConfig
from compresskit.codec.settings import EFFORT_STEPS, Effort, Setting, ladder
from compresskit.codec.shelf import suited
from compresskit.errors import UsageError

KINDS = {"sound": (False, 1, 1), "picture": (False, 2, 3), "volume": (False, 3, 1), "globe": (True, 2, 1)}


def base(kind: str) -> Base:
    sphere, axes, channels = KINDS[kind]
    found = suited(sphere=sphere, axes=axes, channels=channels)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", KINDS)
@given(longest=st.integers(1, 2000))
def test_a_higher_quality_has_no_larger_patches_and_no_fewer_bits_for_the_same(kind: str, longest: int) -> None:
    for worse, better in pairwise(ladder(base(kind), EncodeConfig(), longest)):
        if worse.patch:
            assert min(better.patch[0], longest) <= min(worse.patch[0], longest)
        if not worse.patch or min(better.patch[0], longest) == min(worse.patch[0], longest):
            assert better.bits >= worse.bits


@pytest.mark.parametrize("kind", KINDS)
@given(longest=st.integers(1, 2000))
def test_bits_are_those_of_latents(kind: str, longest: int) -> None:
    assert {setting.bits for setting in ladder(base(kind), EncodeConfig(), longest)} <= set(LATENT_BITS)


def test_small_pictures_have_lower_qualities_too() -> None:
    assert ladder(base("picture"), EncodeConfig(), 32)[:3] == (Setting((64,), 4), Setting((48,), 5), Setting((32,), 6))


def test_what_is_given_is_fixed() -> None:
    settings = ladder(base("picture"), EncodeConfig(bits=7, patch=24), 8)
    assert set(settings) == {Setting((24,), 7)}


def test_efforts_rise_from_none() -> None:
    assert len(EFFORT_STEPS) == len(EFFORTS)
    assert EFFORT_STEPS[0] == Effort(0, 0)
    assert list(EFFORT_STEPS) == sorted(EFFORT_STEPS, key=lambda effort: (effort.refinements, effort.passes))
    for effort in (0, 10):
        with pytest.raises(UsageError, match="--effort"):
            EncodeConfig(effort=effort)
