"""What can be recommended."""

from __future__ import annotations

import pytest

from compresskit.errors import UsageError
from compresskit.recommend.methods import PRUNE, QUANTIZE
from compresskit.recommend.settings import PRUNERS, QUANTIZERS, Setting, grid


def test_names_are_those_of_the_methods() -> None:
    assert tuple(PRUNE) == PRUNERS
    assert tuple(QUANTIZE) == QUANTIZERS


def test_the_grid_holds_each_setting_once_and_the_model_as_it_is_first() -> None:
    every = grid(sparsities=(0.5, 0.9), bits=(8, 4))
    assert len(set(every)) == len(every) == (1 + 6 * 2) * (1 + 3 * 2)
    assert every[0] == Setting()
    assert every[0].compression == 1


def test_compression_multiplies() -> None:
    assert Setting("l1", "lsq", 0.75, 4).compression == pytest.approx(32 / 4 * 4)
    assert str(Setting("l1", "lsq", 0.75, 4)) == "l1 75% + lsq 4 bits"
    assert str(Setting()) == "as it is"


@pytest.mark.parametrize(
    "fields",
    [
        ("l1", "none", 0.0, 32),
        ("none", "none", 0.5, 32),
        ("none", "lsq", 0.0, 32),
        ("none", "none", 0.0, 8),
        ("l3", "none", 0.5, 32),
        ("l1", "none", 1.0, 32),
    ],
)
def test_levels_without_their_method_are_refused(fields: tuple[str, str, float, int]) -> None:
    with pytest.raises(UsageError):
        Setting(*fields)
