from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.codec.contexts import PARAMETERS, SCALE_BITS, Reader, Writer, contexts_of
from compresskit.errors import InputError


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 700), max_size=4), st.booleans())
def test_calls_round_trip(seed: int, sizes: list[int], together: bool) -> None:
    rng = np.random.default_rng(seed)
    calls = [(rng.integers(0, PARAMETERS + 1, size).astype(np.uint8), rng.integers(-1, 2, size) << rng.integers(0, 41, size)) for size in sizes]
    writer = Writer(together=together)
    for contexts, values in calls:
        writer.code(contexts, values)
    alphabet, bits, coded = writer.finish()
    assert not (together and bits)
    reader = Reader(alphabet, None if together else bits, coded)
    for contexts, values in calls:
        assert np.array_equal(reader.code(contexts), values)


def test_contexts_are_half_octaves_of_the_expected_magnitude() -> None:
    assert contexts_of(np.array([-5, 0, 7])).tolist() == [0, 0, 0]
    assert int(np.diff(contexts_of(np.array([1, 2, 4]) << SCALE_BITS).astype(int)).min()) == 2
    assert contexts_of(np.array([1 << 60])).tolist() == [PARAMETERS - 1]


def test_magnitudes_that_are_known_cost_about_their_entropy() -> None:
    rng = np.random.default_rng(0)
    scales = np.exp(rng.uniform(np.log(0.2), np.log(200), 40_000))
    values = np.rint(rng.laplace(0, scales)).astype(np.int64)
    writer = Writer()
    writer.code(contexts_of((scales * (1 << SCALE_BITS)).astype(np.int64)), values)
    _, bits, coded = writer.finish()
    levels = np.abs(values)
    likelihood = np.where(levels == 0, 1 - np.exp(-0.5 / scales), np.exp(-levels / scales) * np.sinh(0.5 / scales))
    assert 8 * (len(bits) + len(coded)) < 1.02 * -np.log2(likelihood).sum()


def test_repetition_becomes_cheap() -> None:
    writer = Writer()
    writer.code(np.zeros(100_000, dtype=np.uint8), np.zeros(100_000, dtype=np.int64))
    writer.code(np.zeros(1, dtype=np.uint8), np.array([5]))
    assert sum(map(len, writer.finish()[1:])) < 100


@pytest.mark.parametrize("alphabet", [0, 255])
def test_impossible_alphabets_are_refused(alphabet: int) -> None:
    with pytest.raises(InputError, match="alphabet"):
        Reader(alphabet, b"", b"")
