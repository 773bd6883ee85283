from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.codec.tokens import MAX_BITS, TOKENS, BitReader, BitWriter, join, plain_bits, split, token_edges
from compresskit.errors import InputError

INTEGERS = st.lists(st.one_of(st.integers(-40, 40), st.integers(-(2**42), 2**42 - 1)), max_size=60)


@given(INTEGERS)
def test_integers_round_trip(values: list[int]) -> None:
    tokens, plain, lengths = split(np.array(values, dtype=np.int64))
    assert np.array_equal(plain_bits(tokens), lengths)
    assert (plain >> lengths == 0).all()
    assert (tokens < TOKENS).all()
    assert join(tokens, plain).tolist() == values


@given(INTEGERS)
def test_bits_round_trip(values: list[int]) -> None:
    _, plain, lengths = split(np.array(values, dtype=np.int64))
    writer = BitWriter()
    for part in np.array_split(np.arange(len(values)), 3):
        writer.write(plain[part], lengths[part])
    data = writer.finish()
    assert len(data) == -(-int(lengths.sum()) // 8)
    reader = BitReader(data)
    assert np.array_equal(np.concatenate([reader.read(lengths[part]) for part in np.array_split(np.arange(len(values)), 5)]), plain)


def test_the_table_of_the_docstring() -> None:
    tokens, plain, lengths = split(np.array([0, -1, 1, -8, 8, 9, 16]))
    assert tokens.tolist() == [0, 1, 2, 15, 16, 16, 20]
    assert plain.tolist() == [0, 0, 0, 0, 0, 2, 0]
    assert lengths.tolist() == [0, 0, 0, 0, 2, 2, 3]


def test_tokens_cover_all_codes_in_order() -> None:
    edges = token_edges()
    assert len(edges) == TOKENS + 1
    assert edges[0] == 0
    assert edges[-1] == 2**MAX_BITS
    assert (np.diff(edges) == 1 << plain_bits(np.arange(TOKENS))).all()


def test_bits_that_end_early_are_refused() -> None:
    with pytest.raises(InputError, match="early"):
        BitReader(b"\0").read(np.array([5, 4]))
