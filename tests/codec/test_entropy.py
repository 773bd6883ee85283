from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from compresskit.codec.entropy import TABLE_BITS, decode_columns, encode_columns, merge, normalize, pack_table, unpack_table
from compresskit.codec.rangecoder import RangeReader, RangeWriter
from compresskit.codec.varint import CutOffError
from compresskit.errors import InputError

TOTAL = 1 << TABLE_BITS
FAIR = np.array([TOTAL // 2, TOTAL // 2], np.uint32)


def random_tables(rng: np.random.Generator, rows: int, size: int) -> NDArray[np.uint32]:
    return normalize(rng.integers(0, 1 << rng.integers(1, 30), (rows, size)))


def draw(rng: np.random.Generator, tables: NDArray[np.uint32], rows: int) -> NDArray[np.int32]:
    return np.stack([rng.choice(len(table), rows, p=table / TOTAL) for table in tables], axis=1).astype(np.int32)


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=40))
def test_frequencies_sum_up_and_stay_near_proportion(counts: list[int]) -> None:
    table = normalize(np.array(counts))
    assert table.sum() == TOTAL
    assert table.min() >= 1
    if sum(counts):
        proportional = [1 + count * (TOTAL - len(counts)) / sum(counts) for count in counts]
        assert np.abs(table - np.array(proportional)).max() < 1.001


def test_each_row_is_normalized_alone() -> None:
    counts = np.array([[5, 0, 1], [0, 0, 0], [1, 1, 1]])
    assert np.array_equal(normalize(counts), np.stack([normalize(row) for row in counts]))


def test_equal_remainders_favour_the_lower_symbol() -> None:
    assert normalize(np.array([1, 1, 1])).tolist() == [21846, 21845, 21845]


@pytest.mark.parametrize("counts", [[], [-1, 2], [2**46]], ids=["none", "negative", "huge"])
def test_counts_that_make_no_table_are_refused(counts: list[int]) -> None:
    with pytest.raises(InputError, match="frequency"):
        normalize(np.array(counts, dtype=np.int64))


def test_merged_bins_are_sums() -> None:
    table = normalize(np.random.default_rng(0).integers(0, 99, (3, 256)))
    merged = merge(table, 5)
    assert merged.shape == (3, 32)
    assert merged[1, 2] == table[1, 16:24].sum()
    assert np.array_equal(merge(table, 8), table)
    with pytest.raises(InputError, match="merged"):
        merge(table, 9)


@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(1, 4), st.integers(1, 300))
def test_columns_round_trip(seed: int, rows: int, columns: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    tables = random_tables(rng, columns, size)
    symbols = draw(rng, tables, rows) if rng.integers(2) else rng.integers(0, size, (rows, columns)).astype(np.int32)
    data = encode_columns(symbols, tables)
    assert np.array_equal(decode_columns(data, rows, tables), symbols)
    assert len(data) <= 1 + (rows * columns * (size - 1).bit_length() + 7) // 8


def test_a_stream_costs_little_more_than_its_entropy() -> None:
    rng = np.random.default_rng(1)
    for rows in (3, 30, 300, 3000):
        tables = random_tables(rng, 8, 32)
        symbols = draw(rng, tables, rows)
        entropy = -np.log2(np.take_along_axis(tables.T / TOTAL, symbols, axis=0)).sum() / 8
        assert len(encode_columns(symbols, tables)) - entropy < 4


def slow_decode(data: bytes, count: int, table: NDArray[np.uint32]) -> list[int]:
    """The range decoder of `rangecoder`'s docstring, in Python's integers."""
    bounds = [(int(c) * (2**24 - len(table)) >> 16) + k for k, c in enumerate(np.concatenate([[0], np.cumsum(table)]))]
    words = [int.from_bytes(data[i : i + 4].ljust(4, b"\0"), "big") for i in range(0, len(data) + 4 * count + 8, 4)]
    point, size, symbols = words.pop(0) << 32 | words.pop(0), 2**64 - 1, []
    for _ in range(count):
        scale = size >> 24
        symbol = next(k for k in range(len(table)) if point < scale * bounds[k + 1])
        symbols.append(symbol)
        point, size = point - scale * bounds[symbol], scale * (bounds[symbol + 1] - bounds[symbol])
        if size < 2**32:
            point, size = point << 32 | words.pop(0), size << 32
    return symbols


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(2, 40))
def test_the_stream_is_what_integers_alone_decode(seed: int, count: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    (table,) = random_tables(rng, 1, size)
    symbols = rng.integers(0, size, count) if rng.integers(2) else rng.choice(size, count, p=table / TOTAL)
    writer = RangeWriter()
    writer.encode(symbols, table)
    assert slow_decode(writer.finish(), count, table) == symbols.tolist()


@given(st.integers(0, 2**32 - 1), st.integers(0, 30))
def test_no_shorter_ending_decodes_alike(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    (table,) = random_tables(rng, 1, 6)
    symbols = rng.integers(0, 6, count).astype(np.int32)
    writer = RangeWriter()
    writer.encode(symbols, table)
    data = writer.finish()
    endings = [data[:-1]] if len(data) < 2 else [data[:-2] + bytes([byte]) for byte in range(256)]
    for ending in endings if data else []:
        try:
            decoded = RangeReader(ending).decode(count, table)
        except InputError:
            continue
        assert not np.array_equal(decoded, symbols)


def test_tables_may_change_within_a_stream() -> None:
    rng = np.random.default_rng(2)
    parts = [(rng.integers(0, size, 50), random_tables(rng, 1, size)[0]) for size in (2, 300, 1, 7)]
    writer = RangeWriter()
    for symbols, table in parts:
        writer.encode(symbols, table)
    reader = RangeReader(writer.finish())
    for symbols, table in parts:
        assert np.array_equal(reader.decode(50, table), symbols)


@given(st.integers(0, 2**32 - 1), st.integers(1, 80), st.integers(2, 300))
def test_of_a_stream_that_was_cut_off_only_what_is_certain_is_decoded(seed: int, count: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    tables = random_tables(rng, count, size)
    symbols = draw(rng, tables, 1)[0]
    writer = RangeWriter()
    for symbol, table in zip(symbols, tables, strict=True):
        writer.encode(np.array([symbol]), table)
    data = writer.finish()
    data = data[: rng.integers(len(data) + 1)]
    reader, found = RangeReader(data, cut=True), []
    with contextlib.suppress(CutOffError):
        for table in tables:
            found.append(reader.decode(1, table)[0])
    assert found == symbols[: len(found)].tolist()
    # Those that ended a state of the decoder, and a word, ago are.
    ends = np.cumsum(-np.log2(tables[np.arange(count), symbols] / TOTAL)) / 8
    assert len(found) >= np.count_nonzero(ends + 12 <= len(data))
    with pytest.raises(CutOffError):
        RangeReader(data, cut=True).decode(9 * len(data) + 1, FAIR)


@given(st.binary(max_size=60), st.integers(0, 50), st.integers(1, 3), st.integers(1, 20))
def test_garbage_decodes_to_symbols_of_the_table_or_is_refused(data: bytes, rows: int, columns: int, size: int) -> None:
    tables = random_tables(np.random.default_rng(rows), columns, size)
    for mode in (data[:1], b"\0", b"\1"):
        try:
            symbols = decode_columns(mode + data[1:], rows, tables)
        except InputError:
            continue
        assert symbols.shape == (rows, columns)
        assert not symbols.size or 0 <= symbols.min() <= symbols.max() < size


def test_symbols_past_the_table_are_not_encoded() -> None:
    with pytest.raises(InputError, match="symbols"):
        encode_columns(np.array([[3]]), normalize(np.ones((1, 3), np.int64)))


@given(st.integers(0, 2**32 - 1), st.sampled_from([(1,), (7,), (3, 32), (2, 256), (0, 5)]))
def test_tables_round_trip(seed: int, shape: tuple[int, ...]) -> None:
    table = normalize(np.random.default_rng(seed).integers(0, 1000, shape))
    assert np.array_equal(unpack_table(pack_table(table), shape), table)


@given(st.binary(max_size=40), st.integers(0, 60))
def test_damaged_tables_are_refused_or_are_tables(data: bytes, cut: int) -> None:
    packed = pack_table(normalize(np.arange(32)))
    for damaged in (data, packed[:cut] + data, packed + data):
        try:
            table = unpack_table(damaged, (32,))
        except InputError:
            continue
        assert table.sum() == TOTAL
        assert table.min() >= 1
