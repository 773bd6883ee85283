"""Predicted latents as bytes: they come back, a beginning tells what it surely says, and damage is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compresskit.codec.config import HALF_BITS
from compresskit.codec.contexts import Writer, contexts_of
from compresskit.codec.latentcode import LatentCode
from compresskit.codec.latentprior import LIMIT, LatentPrior
from compresskit.codec.latentscan import LAYERED, Known
from compresskit.codec.neighbours import places
from compresskit.codec.prior import INCREMENT
from compresskit.codec.varint import pack_varint
from compresskit.errors import InputError

BITS = HALF_BITS
ZEROS = bytes(1000)  # with which a stream goes on behind its end


def random_prior(random: np.random.Generator, axes: int, latents: int) -> LatentPrior:
    """Weights as they are usual: guesses are means of neighbours, about, and magnitudes go on."""
    seen, maps = min(latents, 4), {}
    for which in range(1, 1 << axes):
        sides = 2 * which.bit_count()
        means = np.tile(np.eye(seen, latents, dtype=np.int64) * (4096 // sides), (sides, 1))
        maps[which] = means + random.integers(-99, 100, means.shape)
    own, share, near = random.integers(0, 500, (latents, latents)), random.integers(2000, 4000, latents), random.integers(0, 2000, latents)
    rest = {bits: random.integers(0, 300, (2, latents)) for bits in BITS}
    return LatentPrior(maps, own, share, near, rest, random.integers(-99, 99, (2, latents)))


def known_of(grid: tuple[int, ...], constant: np.ndarray, prior: LatentPrior) -> Known:
    """One item, whose patches of one colour are all grey."""
    colours, levels = np.full((np.count_nonzero(constant), 1), 99), np.full(np.count_nonzero(constant), 256)
    deviations = np.zeros((len(constant), prior.latents), np.int64)
    deviations[constant] = prior.of_colours(colours, levels)
    return Known(places([0, len(constant)], [grid], 0, len(constant)), constant, deviations)


def on_the_grid(code: LatentCode, known: Known, weights: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Deviations whose values are those `wanted` (P, L)."""
    return code.scan(known, weights, lambda rows, band, *_: wanted[rows, band])[1]


def begun_slowly(code: LatentCode, known: Known, weights: np.ndarray, wanted: np.ndarray, told: int) -> tuple[np.ndarray, set[int]]:
    """Deviations where only the first values are `told`; and how many may be."""
    ends, left = {0}, told

    def visit(rows: np.ndarray, band: slice, contexts: np.ndarray, _: np.ndarray) -> np.ndarray:
        nonlocal left
        ends.add(max(ends) + contexts.size)
        left -= contexts.size
        return wanted[rows, band] if left >= 0 else np.zeros_like(wanted[rows, band])

    return code.scan(known, weights, visit)[1], ends


Coded = tuple[LatentCode, Known, np.ndarray, np.ndarray]  # with weights, and the values wanted


@st.composite
def coded(draw: st.DrawFn) -> Coded:
    """Patches of one item, some of one colour, one at least not."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    axes, latents = draw(st.integers(1, 3)), draw(st.sampled_from([1, 7, 9, 20]))
    grid = tuple(draw(st.lists(st.integers(1, 3), min_size=axes + 2, max_size=axes + 2)))
    prior = random_prior(random, axes, latents)
    constant = random.random(math.prod(grid)) < draw(st.sampled_from([0, 0.4]))
    constant[random.integers(len(constant))] = False
    known = known_of(grid, constant, prior)
    weights = random.integers(0, 9, LAYERED) if known.layered else np.zeros(LAYERED, np.int64)
    wanted = np.rint(random.laplace(0, draw(st.sampled_from([0.3, 3, 2000])) / (1 + np.arange(latents)), (len(constant), latents))).astype(np.int64)
    return LatentCode(prior, draw(st.sampled_from(BITS)), draw(st.integers(1, 60)), draw(st.booleans())), known, weights, wanted


@given(coded())
def test_what_is_encoded_comes_back(drawn: Coded) -> None:
    code, known, weights, wanted = drawn
    deviations = on_the_grid(code, known, weights, wanted)
    np.testing.assert_array_equal(code.decode(code.encode(known, deviations, weights), known), deviations)


@given(coded(), st.data())
def test_a_beginning_is_the_whole_as_far_as_it_is_told(drawn: Coded, data: st.DataObject) -> None:
    code, known, weights, wanted = drawn
    deviations = on_the_grid(code, known, weights, wanted)
    packed, before = code.encode(known, deviations, weights), 0
    for length in sorted(data.draw(st.lists(st.integers(0, len(packed)), min_size=1, max_size=4))):
        found, told = code.begun(packed[:length], known)
        # Weights are told before any value.
        expected, ends = begun_slowly(code, known, weights, wanted, told)
        assert told in ends
        assert told >= before
        before = told
        if told:
            np.testing.assert_array_equal(found, expected)
    found, told = code.begun(packed + ZEROS, known)
    assert told == np.count_nonzero(~known.constant) * wanted.shape[1]
    np.testing.assert_array_equal(found, deviations)


@given(coded())
def test_nothing_told_is_as_guessed(drawn: Coded) -> None:
    code, known, _, wanted = drawn
    found, told = code.begun(b"", known)
    assert told == 0
    np.testing.assert_array_equal(found, on_the_grid(code, known, np.zeros(LAYERED, np.int64), np.zeros_like(wanted)))
    if not known.constant.any():
        assert not found.any()


@given(coded(), st.data())
def test_damage_is_refused_or_decodes(drawn: Coded, data: st.DataObject) -> None:
    code, known, weights, wanted = drawn
    packed = code.encode(known, on_the_grid(code, known, weights, wanted), weights)
    damaged = bytearray(packed[: data.draw(st.integers(0, len(packed)))] + data.draw(st.binary(max_size=9)))
    for _ in range(data.draw(st.integers(0, 3)) if damaged else 0):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for read in (lambda: code.decode(bytes(damaged), known), lambda: code.begun(bytes(damaged), known)[0]):
        try:
            found = read()
        except InputError:
            continue
        assert found.shape == wanted.shape
        assert np.abs(found).max() < LIMIT
        np.testing.assert_array_equal(found[known.constant], known.deviations[known.constant])


def lively(seed: int = 0) -> Coded:
    """40 patches in a row with latents whose magnitudes fall off, half of the patches with larger ones."""
    random, latents = np.random.default_rng(seed), 40
    prior = random_prior(random, 1, latents)
    wanted = np.rint(random.laplace(0, random.choice([0.3, 6], 40)[:, None] / (1 + np.arange(latents) / 6))).astype(np.int64)
    return LatentCode(prior, 6, 900), known_of((1, 1, 40), np.zeros(40, np.bool_), prior), np.zeros(LAYERED, np.int64), wanted


def progressive(code: LatentCode) -> LatentCode:
    return LatentCode(code.prior, code.bits, code.step, progressive=True)


def test_half_of_a_progressive_stream_tells_coarse_latents_of_all_patches() -> None:
    code, known, weights, wanted = lively()
    code = progressive(code)
    deviations = on_the_grid(code, known, weights, wanted)
    packed = code.encode(known, deviations, weights)
    found, told = code.begun(packed[: len(packed) // 2], known)
    assert 8 * len(wanted) <= told < wanted.size
    np.testing.assert_array_equal(found[:, :8], deviations[:, :8])


def test_a_progressive_order_costs_little() -> None:
    code, known, weights, wanted = lively()
    plain, ordered = (len(choice.encode(known, on_the_grid(choice, known, weights, wanted), weights)) for choice in (code, progressive(code)))
    assert ordered < 1.02 * plain


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_all_lengths_of_a_stream_tell_ever_more(seed: int, ordered: bool) -> None:
    code, known, weights, wanted = lively(seed)
    code = progressive(code) if ordered else code
    packed = code.encode(known, on_the_grid(code, known, weights, wanted), weights)
    told = [code.begun(packed[:length], known)[1] for length in range(0, len(packed), 40)]
    assert told == sorted(told)
    assert told[-1] > wanted.size // 2


def written(*calls: tuple[int, list[int]]) -> bytes:
    """What a writer that keeps to nothing writes: calls of an expected magnitude, in 2**-8, and their integers."""
    writer = Writer(INCREMENT)
    for magnitude, values in calls:
        writer.code(contexts_of(np.full(len(values), magnitude)), np.array(values, np.int64))
    alphabet, bits, coded = writer.finish()
    return bytes((alphabet,)) + pack_varint(len(bits)) + bits + coded


@pytest.mark.parametrize(
    ("data", "frames", "reason"),
    [
        (b"", 1, "declared where 0 are left"),
        (b"\0\0", 1, "an alphabet of 0 tokens"),
        (b"\x05\x09ab", 1, "declared where 2 are left"),
        (b"\xac\0" + b"\xff" * 40, 1, "plain bits end too early|cannot be decoded"),
        (written((0, [LIMIT])), 1, "far out of range"),
        (written((0, [-LIMIT])), 1, "far out of range"),
        (written((0, [LIMIT // 2])), 1, "far out of range"),
        (written((512, [0] * 8 + [9])), 2, "not from 0 to 1"),
        (written((512, [-1] + [0] * 8)), 2, "not from 0 to 1"),
    ],
    ids=range(9),
)
def test_what_no_encoder_writes_is_refused(data: bytes, frames: int, reason: str) -> None:
    nothing = np.zeros(1, np.int64)
    prior = LatentPrior({}, np.zeros((1, 1), np.int64), nothing, nothing, {6: np.zeros((2, 1), np.int64)}, np.zeros((2, 1), np.int64))
    with pytest.raises(InputError, match=reason):
        LatentCode(prior, 6, 2).decode(data, known_of((1, frames, 1), np.zeros(frames, np.bool_), prior))


@pytest.mark.parametrize("value", [-9, 9])
def test_the_farthest_latents_are_read(value: int) -> None:
    nothing = np.zeros(1, np.int64)
    prior = LatentPrior({}, np.zeros((1, 1), np.int64), nothing, nothing, {6: np.zeros((2, 1), np.int64)}, np.zeros((2, 1), np.int64))
    known = known_of((1, 1, 1), np.zeros(1, np.bool_), prior)
    assert LatentCode(prior, 6, (LIMIT - 1) // 9).decode(written((0, [value])), known).tolist() == [[value * ((LIMIT - 1) // 9)]]
