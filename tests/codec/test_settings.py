"""What a quality means for signals of any size."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.codec.base import SYMBOL_BITS, Base
from compresskit.codec.config import EFFORTS, HALF_BITS, QUALITIES, EncodeConfig
from compresskit.codec.settings import EFFORT_STEPS, Effort, Setting, ladder
from compresskit.codec.shelf import suited
from compresskit.errors import UsageError

KINDS = {"sound": (False, 1, 1), "picture": (False, 2, 3), "volume": (False, 3, 1), "globe": (True, 2, 1)}


def base(kind: str) -> Base:
    sphere, axes, channels = KINDS[kind]
    found = suited(sphere=sphere, axes=axes, channels=channels)
    assert found is not None
    return found


def worth(setting: Setting, longest: int) -> float:
    """In bits of a latent: half as many samples along an axis are worth two."""
    return setting.bits - 2 * math.log2(min(setting.patch[0], longest) if setting.patch else 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_higher_quality_is_worth_more(kind: str) -> None:
    """It may have larger patches, but of more bits then; or fewer bits, but for smaller patches."""
    found = [worth(setting, 2000) for setting in ladder(base(kind), EncodeConfig(), 2000)]
    assert len(found) == len(QUALITIES)
    assert all(worse < better for worse, better in pairwise(found))


@pytest.mark.parametrize("kind", KINDS)
@given(longest=st.integers(1, 2000))
def test_a_higher_quality_is_worth_no_less_for_signals_of_any_size(kind: str, longest: int) -> None:
    """But for bits being whole where patches are larger than the signal."""
    settings = ladder(base(kind), EncodeConfig(), longest)
    for worse, better in pairwise(settings):
        rounded = 1.0 if any(setting.patch and setting.patch[0] > longest for setting in (worse, better)) else 0.0
        assert worth(better, longest) >= worth(worse, longest) - rounded


@pytest.mark.parametrize("kind", KINDS)
@given(longest=st.integers(1, 2000))
def test_bits_are_those_of_the_base_network(kind: str, longest: int) -> None:
    assert {setting.bits for setting in ladder(base(kind), EncodeConfig(), longest)} <= set(HALF_BITS)


def test_small_pictures_have_lower_qualities_too() -> None:
    large, small = (ladder(base("picture"), EncodeConfig(), longest) for longest in (2000, 32))
    assert small[0].bits < large[0].bits
    for one, other in zip(small, large, strict=True):
        assert one == other if other.patch[0] <= 32 else (one.patch == other.patch and one.bits < other.bits)
    assert len(set(small)) == len(small)


@pytest.mark.parametrize(("kind", "former"), [("sound", (1, 1)), ("picture", (2, 3)), ("volume", (3, 1))])
def test_base_networks_of_fewer_bits_are_asked_for_no_more(kind: str, former: tuple[int, int], make_former: Callable[[int, int], Base]) -> None:
    own = ladder(make_former(*former), EncodeConfig(), 2000)
    assert [setting.bits for setting in own] == [min(int(setting.bits), SYMBOL_BITS[-1]) for setting in ladder(base(kind), EncodeConfig(), 2000)]
    with pytest.raises(UsageError, match="--bits 9 is out of range for the base network former: give 3 to 8"):
        ladder(make_former(*former), EncodeConfig(bits=9), 2000)
    assert {setting.bits for setting in ladder(make_former(*former), EncodeConfig(bits=8), 2000)} == {8}


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
