"""Latents in contexts: they come back, take fewer bits where there is something to know, and damage is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.codec.contexts import SCALE_BITS, Writer, contexts_of
from compresskit.codec.entropy import encode_columns, normalize
from compresskit.codec.neighbours import Places, places
from compresskit.codec.prior import GUESSED, INCREMENT, bands, begun_latents, decode_latents, encode_latents, fit_weights, scan, typical_magnitudes
from compresskit.codec.varint import pack_varint
from compresskit.errors import InputError

LIMIT = 16


def lively(count: int, latents: int, seed: int = 0) -> np.ndarray:
    """Values (count, latents) of patches that differ in how lively they are, and go on from one to the next in the first latent."""
    random = np.random.default_rng(seed)
    values = random.laplace(0, random.choice([0.2, 4.0], count)[:, None] / (1 + np.arange(latents) / 8))
    values[:, 0] = 12 * np.sin(np.arange(count) / 9)
    return np.clip(np.rint(values), -LIMIT, LIMIT - 1).astype(np.int64)


def line(count: int) -> Places:
    """The places of so many patches in a row."""
    return places([0, count], [(1, 1, count)], 0, count)


@given(
    st.integers(1, 12), st.lists(st.integers(1, 4), min_size=3, max_size=4).map(tuple), st.integers(1, 6), st.integers(0, 2**32 - 1), st.booleans()
)
def test_what_is_encoded_comes_back(latents: int, grid: tuple[int, ...], bits: int, seed: int, progressive: bool) -> None:
    random, limit = np.random.default_rng(seed), 1 << bits - 1
    kept = random.random(int(np.prod(grid))) < 0.8
    lying = places([0, len(kept)], [grid], 0, len(kept)).only(kept)
    values = random.integers(-limit, limit, (len(lying), latents))
    typical = random.integers(0, limit << SCALE_BITS, latents)
    data = encode_latents(values, lying, typical, limit, progressive=progressive)
    np.testing.assert_array_equal(decode_latents(data, lying, typical, limit, progressive=progressive), values)


def test_a_beginning_tells_the_first_bands() -> None:
    values, lying, typical = lively(90, 40), line(90), np.arange(40, 0, -1) << SCALE_BITS
    data = encode_latents(values, lying, typical, LIMIT, progressive=True)
    starts, before = {band.start for band in bands(40)} | {40}, 0
    # Behind its end, a stream goes on with zeros.
    for beginning in (*(data[:length] for length in range(0, len(data), 9)), data + bytes(99)):
        found, known = begun_latents(beginning, lying, typical, LIMIT, progressive=True)
        assert known in starts
        assert known >= before
        np.testing.assert_array_equal(found[:, :known], values[:, :known])
        assert not found[:, known:].any()
        before = known
    assert before == 40


def test_a_progressive_order_costs_next_to_nothing() -> None:
    values, lying, typical = lively(256, 40), line(256), np.arange(40, 0, -1) << SCALE_BITS
    plain, progressive = (len(encode_latents(values, lying, typical, LIMIT, progressive=choice)) for choice in (False, True))
    assert progressive < 1.01 * plain


@given(st.integers(0, 400))
def test_bands_cover_all_latents_once(latents: int) -> None:
    assert [latent for band in bands(latents) for latent in range(latents)[band]] == list(range(latents))


def test_contexts_save_what_patches_tell() -> None:
    values = lively(256, 40)
    counts = np.stack([np.bincount(column, minlength=2 * LIMIT) for column in (values + LIMIT).T])
    tables = normalize(2 * counts + 1)
    coded = encode_latents(values, line(256), typical_magnitudes(tables), LIMIT)
    assert len(coded) < 0.93 * len(encode_columns(values + LIMIT, tables))


def test_what_goes_on_is_guessed() -> None:
    values = lively(64, 10)
    weights = fit_weights(line(64), values)
    assert weights.shape == (GUESSED, 1)
    assert weights[0, 0] == 2


def test_expectations_follow_the_specification() -> None:
    values, lying = lively(6, 20), line(6)
    typical = np.arange(20, 0, -1) << SCALE_BITS
    weights = fit_weights(lying, values)
    seen: dict[tuple[int, int], tuple[int, int]] = {}

    def visit(rows: np.ndarray, band: slice, contexts: np.ndarray, guesses: np.ndarray) -> np.ndarray:
        latents = range(20)[band]
        seen.update({(row, latent): (contexts[r, k], guesses[r, k]) for r, row in enumerate(rows.tolist()) for k, latent in enumerate(latents)})
        return values[rows, band]

    np.testing.assert_array_equal(scan(lying, typical, weights, LIMIT, visit), values)
    begins = {latent: band.start for band in bands(20) for latent in range(20)[band]}
    for (row, latent), (context, guess) in seen.items():
        window = slice(max(begins[latent] - 16, 0), begins[latent])
        expected = int(typical[latent]) * (256 * int(np.abs(values[row, window]).sum()) + 128) // (int(typical[window].sum()) + 128)
        known = [values[other, latent] for other in (row - 1, row + 1) if row % 2 and other < 6]
        if known:
            expected = (3 * expected + 256 * sum(map(abs, known)) // len(known)) // 4
        assert context == contexts_of(np.array([expected]))[0]
        weight = int(weights[latent, 0]) if latent < GUESSED else 0
        assert guess == (np.clip((weight * sum(known) + len(known)) // (2 * len(known)), -LIMIT, LIMIT - 1) if known else 0)


def _packed(weights: list[int], values: list[int]) -> bytes:
    """What a writer that keeps to nothing writes, for one row of patches."""
    writer = Writer(INCREMENT)
    writer.code(contexts_of(np.full(len(weights), 256)), np.array(weights, np.int64))
    for value in values:
        writer.code(np.zeros(1, np.uint8), np.array([value], np.int64))
    alphabet, bits, coded = writer.finish()
    return bytes((alphabet,)) + pack_varint(len(bits)) + bits + coded


@pytest.mark.parametrize(
    ("data", "count", "reason"),
    [
        (b"", 1, "declared where 0 are left"),
        (b"\0\0", 1, "an alphabet of 0 tokens"),
        (b"\x05\x09ab", 1, "declared where 2 are left"),
        (b"\xac\0" + b"\xff" * 40, 1, "plain bits end too early|cannot be decoded"),
        (_packed([], [LIMIT]), 1, "more than 16 bins"),
        (_packed([], [-LIMIT - 1]), 1, "more than 16 bins"),
        (_packed([4], [0, 0]), 2, "a weight of over 3 halves"),
    ],
)
def test_damage_is_refused(data: bytes, count: int, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        decode_latents(data, line(count), np.zeros(1, np.int64), LIMIT)


@pytest.mark.parametrize("seed", range(3))
def test_no_damage_goes_beyond_the_limit_or_fails_otherwise(seed: int) -> None:
    random, lying, typical = np.random.default_rng(seed), line(30), np.arange(12, 0, -1) << SCALE_BITS
    data = encode_latents(lively(30, 12, seed), lying, typical, LIMIT)
    for _ in range(100):
        damaged = bytearray(data)
        damaged[random.integers(len(data))] ^= 1 << int(random.integers(8))
        try:
            values = decode_latents(bytes(damaged[: random.integers(1, len(data) + 1)]), lying, typical, LIMIT)
        except InputError:
            continue
        assert -LIMIT <= values.min() <= values.max() < LIMIT
