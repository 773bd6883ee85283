from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.data.dataset import Split
from compresskit.data.splitting import hold_out
from compresskit.errors import InputError


def _split(labels: list[int]) -> Split:
    return Split(np.arange(len(labels), dtype=np.float32)[:, None], np.array(labels, np.int64))


@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=200).filter(lambda labels: len(set(labels)) < len(labels)),
    st.floats(0.05, 0.45),
    st.integers(0, 9),
)
def test_each_sample_is_in_one_part_and_each_class_keeps_its_share(labels: list[int], fraction: float, seed: int) -> None:
    split = _split(labels)
    rest, held = hold_out(split, fraction, np.random.default_rng(seed))
    assert sorted([*rest.x.ravel(), *held.x.ravel()]) == list(range(len(labels)))
    for label in set(labels):
        count = labels.count(label)
        assert (held.y == label).sum() == min(max(round(fraction * count), 1), count - 1)
    for part in (rest, held):
        assert np.array_equal(part.y, split.y[part.x.ravel().astype(int)])
        assert np.array_equal(part.x, np.sort(part.x, axis=0))


def test_the_seed_decides() -> None:
    split = _split([0, 1] * 50)
    first, again, other = (hold_out(split, 0.2, np.random.default_rng(seed))[1].x for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_values_to_regress_are_drawn_at_large() -> None:
    split = Split(np.zeros((40, 1), np.float32), np.linspace(0, 1, 40, dtype=np.float32))
    rest, held = hold_out(split, 0.25, np.random.default_rng(0))
    assert (len(rest), len(held)) == (30, 10)


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(InputError, match="2 samples are too few"):
        hold_out(_split([0, 1]), 0.1, np.random.default_rng(0))


def test_samples_with_a_class_a_pixel_are_drawn_at_large() -> None:
    maps = np.arange(40 * 6).reshape(40, 2, 3) % 5
    rest, held = hold_out(Split(np.arange(40, dtype=np.float32)[:, None], maps), 0.25, np.random.default_rng(0))
    assert (len(rest), len(held)) == (30, 10)
    for part in (rest, held):
        assert np.array_equal(part.y, maps[part.x[:, 0].astype(int)])
