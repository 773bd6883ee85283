"""Every batch has its share of every class."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compresskit.data.dataset import Split
from compresskit.errors import InputError, UsageError
from compresskit.models.graph import Normalization
from compresskit.pruning.at_init import balanced_batches

IDENTITY = Normalization((0.0,), (1.0,))


def numbered(y: np.ndarray) -> Split:
    """Samples that are their own numbers."""
    return Split(np.arange(len(y), dtype=np.float32)[:, None], y)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(1, 20), st.integers(0, 100))
def test_classes_have_equal_shares_and_samples_their_turns(counts: list[int], size: int, seed: int) -> None:
    y = np.repeat(np.arange(len(counts)), counts)
    drawn = list(islice(balanced_batches(numbered(y), IDENTITY, len(counts), seed=seed, size=size), 4))
    for x, labels in drawn:
        assert len(x) == len(labels) == size
        assert np.array_equal(y[x[:, 0].long().numpy()], labels.numpy())
        shares = Counter(labels.tolist())
        assert max(shares.values()) - min(shares[label] for label in range(len(counts))) <= 2
    turns = Counter(int(value) for x, _ in drawn for value in x[:, 0])
    for label, count in enumerate(counts):
        mine = [turns[index] for index in np.flatnonzero(y == label).tolist()]
        assert len(mine) == count
        assert max(mine) - min(mine) <= 1


def test_a_batch_has_ten_of_each_class() -> None:
    y = np.repeat(np.arange(3), (50, 20, 11))
    (_, labels), (_, again) = islice(balanced_batches(numbered(y), IDENTITY, 3, seed=0), 2)
    assert labels.bincount().tolist() == again.bincount().tolist() == [10, 10, 10]


def test_batches_come_from_the_seed() -> None:
    split = numbered(np.repeat(np.arange(2), 30))
    first, again, other = (next(balanced_batches(split, IDENTITY, 2, seed=seed))[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_numbers_are_drawn_at_large_and_samples_normalized() -> None:
    split = Split(np.full((4, 2), 255, dtype=np.uint8), np.array([0.5, 1.5, 2.5, 3.5], dtype=np.float32))
    x, y = next(balanced_batches(split, Normalization((0.5,), (0.25,)), None, seed=0))
    assert x.shape == (100, 2)
    assert (x == 2).all()
    assert Counter(y.tolist()) == {0.5: 25, 1.5: 25, 2.5: 25, 3.5: 25}


def test_missing_classes_are_named() -> None:
    with pytest.raises(InputError, match="none of class 1, 3"):
        balanced_batches(numbered(np.array([0, 2, 2])), IDENTITY, 4, seed=0)


def test_no_samples_and_no_size_are_refused() -> None:
    with pytest.raises(InputError, match="no samples"):
        balanced_batches(numbered(np.zeros(0, dtype=np.float32)), IDENTITY, None, seed=0)
    with pytest.raises(UsageError, match="batch size"):
        balanced_batches(numbered(np.array([0])), IDENTITY, 1, seed=0, size=0)
