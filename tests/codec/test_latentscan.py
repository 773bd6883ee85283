"""Predicted latents against FORMAT.md ("Predicted latents"), followed word by word in Python's integers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compresskit.codec.config import HALF_BITS
from compresskit.codec.latentprior import FEATURES, LIMIT, LatentPrior, read_prior
from compresskit.codec.latentscan import LAYERED, SHARES, Known, fit_weights, scan
from compresskit.codec.neighbours import places

BITS = HALF_BITS
ROOTS = [math.isqrt(1 << 16 + j) for j in range(-10, 30)]
Row = tuple[int, tuple[int, ...]]  # item, and place in it: plane, frame, spatial axes
Call = tuple[list[int], list[int], list[list[int]], list[list[int]]]  # rows, latents, and their contexts and guesses


def random_prior(random: np.random.Generator, axes: int, latents: int, size: int = 1 << 12) -> LatentPrior:
    """Weights of about so much, some maps left out."""

    def weights(*shape: int) -> np.ndarray:
        return np.clip(random.integers(-size, 2 * size, shape), 1 - 2**15, 2**15 - 1)

    maps = {
        which: weights(2 * which.bit_count() * random.integers(1, min(latents, 9) + 1), random.integers(1, latents + 1))
        for which in range(1, 1 << axes)
        if random.random() < 0.8
    }
    rest = {bits: random.integers(-300, 1000, (2, latents)) for bits in BITS}
    flat = random.integers(-LIMIT // 4, LIMIT // 4, (2, latents))
    return LatentPrior(maps, weights(latents, latents), weights(latents), weights(latents), rest, flat)


@dataclass(frozen=True)
class Case:
    """Patches of a chunk, and how they are coded."""

    prior: LatentPrior
    rows: list[Row]
    known: Known
    bits: int
    step: int
    weights: np.ndarray
    wanted: np.ndarray
    progressive: bool

    def scanned(self) -> tuple[list[Call], np.ndarray, np.ndarray]:
        """Calls, values and deviations; values as near to those wanted as the limit allows."""
        calls: list[Call] = []

        def visit(rows: np.ndarray, band: slice, contexts: np.ndarray, guesses: np.ndarray) -> np.ndarray:
            calls.append((rows.tolist(), list(range(band.start, band.stop)), contexts.tolist(), guesses.tolist()))
            most = (LIMIT - 1 - np.abs(guesses)) // self.step
            return np.clip(self.wanted[rows, band], -most, most)

        return calls, *scan(self.prior, self.known, self.bits, self.step, self.weights, visit, progressive=self.progressive)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Items of 1 to 3 spatial axes, some of whose patches are in the chunk and some of these of one colour."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    axes, latents = draw(st.integers(1, 3)), draw(st.sampled_from([1, 5, 9, 21, 40]))
    item = st.tuples(st.integers(1, 3), st.integers(1, 3), *[st.integers(1, 4 if axes < 3 else 3)] * axes).filter(lambda grid: math.prod(grid) < 80)
    grids = draw(st.lists(item, min_size=1, max_size=3))
    firsts = [0, *accumulate(map(math.prod, grids))]
    # The last patch of an item may be its only one in the chunk.
    begin = draw(st.integers(0, firsts[-1] - 1) | st.sampled_from([first - 1 for first in firsts[1:]]))
    end = draw(st.integers(begin + 1, min(firsts[-1], begin + 40)))
    rows = [(number, place) for number, grid in enumerate(grids) for place in np.ndindex(*grid)][begin:end]
    prior = random_prior(random, axes, latents, draw(st.sampled_from([1 << 10, 1 << 12, 1 << 15])))
    constant = random.random(end - begin) < draw(st.sampled_from([0, 0.3, 1]))
    deviations = np.where(constant[:, None], random.integers(1 - LIMIT, LIMIT, (end - begin, latents)), 0)
    known = Known(places(firsts, grids, begin, end), constant, deviations)
    wanted = np.rint(random.laplace(0, draw(st.sampled_from([1, 60, 1e5])), (end - begin, latents))).astype(np.int64)
    bits, step = draw(st.sampled_from(BITS)), draw(st.sampled_from([1, 300, 20_000, LIMIT - 1]))
    return Case(prior, rows, known, bits, step, random.integers(0, 9, LAYERED), wanted, draw(st.booleans()))


def slow_layers(latents: int, *, progressive: bool) -> list[range]:
    ends = [0, latents] if not progressive else [0, *(8 << k for k in range(8) if 8 << k < latents), latents]
    return [range(*pair) for pair in pairwise(ends)]


def slow_bands(layer: range) -> Iterator[range]:
    begin = layer.start
    while begin < layer.stop:
        yield range(begin, min(begin + min(16, 2 ** max(begin.bit_length() - 3, 0)), layer.stop))
        begin += min(16, 2 ** max(begin.bit_length() - 3, 0))


class Slow:
    """A reader that knows nothing but FORMAT.md, for values that it is told."""

    def __init__(self, case: Case, values: np.ndarray) -> None:
        self.prior, self.bits, self.step, self.weights = case.prior, case.bits, case.step, case.weights.tolist()
        self.rows, self.values = case.rows, values.tolist()
        self.deviations: list[list[int]] = case.known.deviations.tolist()
        self.constant = case.known.constant.tolist()
        self.numbers = {row: number for number, row in enumerate(self.rows)}
        crowd = Counter(item for item, _ in self.rows)
        self.turn = [sum(coordinate % 2 for coordinate in place) if crowd[item] > 1 else 0 for item, place in self.rows]

    def calls(self, *, progressive: bool) -> Iterator[Call]:
        for layer in slow_layers(self.prior.latents, progressive=progressive):
            for turn in range(6):
                rows = [row for row in range(len(self.rows)) if self.turn[row] == turn and not self.constant[row]]
                for band in slow_bands(layer) if rows else ():
                    contexts = [[sum(root <= self.expected(row, latent, band.start) for root in ROOTS) for latent in band] for row in rows]
                    guesses = [[self.guess(row, latent) for latent in band] for row in rows]
                    for row, guessed in zip(rows, guesses, strict=True):
                        for latent, guess in zip(band, guessed, strict=True):
                            self.deviations[row][latent] = guess + self.values[row][latent] * self.step
                    yield rows, list(band), contexts, guesses

    def near(self, row: int, axis: int) -> list[int | None]:
        """The known neighbours before and after a patch along an axis."""
        item, place = self.rows[row]
        others = (self.numbers.get((item, (*place[:axis], place[axis] + side, *place[axis + 1 :]))) for side in (-1, 1))
        return [other if other is not None and self.turn[other] < self.turn[row] else None for other in others]

    def known(self, row: int, axes: range) -> list[int]:
        return [other for axis in axes for other in self.near(row, axis) if other is not None]

    def guess(self, row: int, latent: int) -> int:
        axes = len(self.rows[row][1])
        spatial = [axis for axis in range(axes - 2) if self.known(row, range(axis + 2, axis + 3))]
        map_ = self.prior.maps.get(sum(2**axis for axis in spatial))
        guess = 0
        if map_ is not None and latent < map_.shape[1]:
            pairs = [self.near(row, axis + 2) for axis in spatial]
            listed = [there for before, after in pairs for there in (after if before is None else before, before if after is None else after)]
            numbers = [self.deviations[there][k] for there in listed if there is not None for k in range(len(map_) // len(listed))]
            guess = (sum(x * int(weight) for x, weight in zip(numbers, map_[:, latent], strict=True)) + 2048) // 4096
        layered = self.known(row, range(2))
        if layered:
            mean = (2 * sum(self.deviations[other][latent] for other in layered) + len(layered)) // (2 * len(layered))
            guess += ((mean - guess) * self.weights[min(latent, 8)] + 4) // 8
        return min(max(guess, 1 - 2**25), 2**25 - 1)

    def expected(self, row: int, latent: int, begin: int) -> int:
        rest = self.prior.rest[self.bits]
        before = sum(int(self.prior.own[k, latent]) * self.size(row, k) for k in range(begin)) // 16
        known = self.known(row, range(len(self.rows[row][1])))
        if not known:
            return before + int(rest[0, latent])
        theirs = 256 * sum(self.size(other, latent) for other in known) // len(known)
        return (before * int(self.prior.share[latent]) + theirs * int(self.prior.near[latent])) // 4096 + int(rest[1, latent])

    def size(self, row: int, latent: int) -> int:
        return min(abs(self.values[row][latent]), 2**13)


@settings(max_examples=60)
@given(cases())
def test_every_call_is_as_specified(case: Case) -> None:
    calls, values, deviations = case.scanned()
    slow = Slow(case, values)
    assert calls == list(slow.calls(progressive=case.progressive))
    assert deviations.tolist() == slow.deviations
    assert not values[case.known.constant].any()


@given(cases())
def test_guesses_stay_within_the_limit(case: Case) -> None:
    calls, _, deviations = case.scanned()
    assert all(abs(guess) < LIMIT for *_, guesses in calls for row in guesses for guess in row)
    assert np.abs(deviations).max() < LIMIT


@given(cases())
def test_every_latent_is_coded_once(case: Case) -> None:
    calls, _, _ = case.scanned()
    seen = Counter((row, latent) for rows, latents, *_ in calls for row in rows for latent in latents)
    assert set(seen.values()) <= {1}
    assert len(seen) == np.count_nonzero(~case.known.constant) * case.prior.latents


@given(cases())
def test_coarse_latents_of_all_patches_come_before_finer_ones_of_any(case: Case) -> None:
    calls, _, _ = replace(case, progressive=True).scanned()
    layers = [max(latents[0].bit_length() - 3, 0) for _, latents, *_ in calls]
    assert layers == sorted(layers)


colours = st.lists(st.tuples(st.integers(-(2**40), 2**40), st.sampled_from([1, 2, 256, 65536])), min_size=1, max_size=6)


@given(colours, st.integers(1, 4), st.integers(0, 2**32 - 1), st.sampled_from([1 << 16, LIMIT]))
def test_colours_have_the_latents_that_are_specified(drawn: list[tuple[int, int]], channels: int, seed: int, size: int) -> None:
    random = np.random.default_rng(seed)
    flat = random.integers(1 - size, size, (channels + 1, 7))
    # In each channel another one, some of which are out of range.
    colours = np.array([[colour >> 8 * channel for channel in range(channels)] for colour, _ in drawn])
    found = replace(random_prior(random, 1, 7), flat=flat).of_colours(colours, np.array([levels for _, levels in drawn]))
    for row, (_, levels), deviations in zip(colours.tolist(), drawn, found.tolist(), strict=True):
        parts = [65536 * min(max(colour, 0), levels - 1) // max(levels - 1, 1) for colour in row]
        for latent, deviation in enumerate(deviations):
            mixed = sum(part * int(flat[channel, latent]) for channel, part in enumerate(parts)) // 65536 + int(flat[channels, latent])
            assert deviation == min(max(mixed, 1 - 2**25), 2**25 - 1)


def test_a_prior_is_read_as_it_was_written() -> None:
    prior = random_prior(np.random.default_rng(0), 3, 20)
    found = read_prior(prior.tensors())
    assert found.fits(3, 20)
    assert all(np.array_equal(found.tensors()[name], tensor) for name, tensor in prior.tensors().items())


def _plain(**changes: object) -> LatentPrior:
    """A prior of 4 latents, with some changes."""
    nothing = np.zeros(4, np.int64)
    rest = {bits: np.zeros((2, 4), np.int64) for bits in BITS}
    prior = LatentPrior({1: np.zeros((8, 4), np.int64)}, np.zeros((4, 4), np.int64), nothing, nothing, rest, np.zeros((2, 4), np.int64))
    return replace(prior, **changes)  # type: ignore[arg-type]


def test_what_fits() -> None:
    assert _plain().fits(1, 4)
    assert _plain(maps={}).fits(1, 4)
    assert _plain(maps={7: np.full((6, 2), 2**15 - 1)}).fits(3, 4)


@pytest.mark.parametrize(
    "changes",
    [
        {"maps": {2: np.zeros((8, 4), np.int64)}},
        {"maps": {1: np.zeros((7, 4), np.int64)}},
        {"maps": {1: np.zeros((0, 4), np.int64)}},
        {"maps": {1: np.zeros((10, 4), np.int64)}},
        {"maps": {1: np.zeros((8, 5), np.int64)}},
        {"maps": {1: np.full((8, 4), -(2**15))}},
        {"own": np.zeros((4, 3), np.int64)},
        {"share": np.zeros(3, np.int64)},
        {"near": np.full(4, 2**15)},
        {"rest": {bits: np.zeros((1, 4), np.int64) for bits in BITS}},
        {"flat": np.full((2, 4), LIMIT)},
    ],
    ids=lambda changes: str({name: np.shape(value) if not isinstance(value, dict) else next(iter(value)) for name, value in changes.items()}),
)
def test_what_does_not_fit(changes: dict[str, object]) -> None:
    assert not _plain(**changes).fits(1, 4)


def test_no_more_latents_of_neighbours_are_looked_at_than_are_counted() -> None:
    """What decoding takes is estimated for FEATURES of them (workspace.py)."""
    prior = random_prior(np.random.default_rng(0), 0, 2 * FEATURES)
    assert replace(prior, maps={1: np.zeros((2 * FEATURES, 3), np.int64)}).fits(1, 2 * FEATURES)
    assert not replace(prior, maps={1: np.zeros((2 * FEATURES + 2, 3), np.int64)}).fits(1, 2 * FEATURES)


@pytest.mark.parametrize("name", ["prior.own", "prior.share", "prior.near", "prior.rest", "prior.flat"])
def test_a_prior_with_a_part_missing_or_of_another_type_is_refused(name: str) -> None:
    tensors = _plain().tensors()
    with pytest.raises(TypeError):
        read_prior({**tensors, name: tensors[name].astype(np.int64)})
    del tensors[name]
    with pytest.raises(KeyError):
        read_prior(tensors)


def test_a_map_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="impossible shape"):
        read_prior({**_plain().tensors(), "prior.map.1": np.zeros(4, np.int16)})


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_weights_of_frames_are_the_best_ones(seed: int, alike: float) -> None:
    random, latents, frames = np.random.default_rng(seed), 12, 5
    prior = replace(random_prior(random, 1, latents), maps={})
    count = 3 * frames
    known = Known(places([0, count], [(1, frames, 3)], 0, count), random.random(count) < 0.2, np.zeros((count, latents), np.int64))
    still, moving = random.normal(0, 2**16, (3, latents)), random.normal(0, 2**16, (frames, 3, latents))
    deviations = np.rint(alike * still + (1 - alike) * moving).astype(np.int64).reshape(-1, latents)

    def error(weights: np.ndarray) -> float:
        """What guesses from these deviations are off."""
        missed = []

        def visit(rows: np.ndarray, band: slice, _: np.ndarray, guesses: np.ndarray) -> np.ndarray:
            missed.append(np.square(deviations[rows, band] - guesses, dtype=np.float64).sum())
            return deviations[rows, band] - guesses

        scan(prior, known, 6, 1, weights, visit)
        return float(sum(missed))

    known = replace(known, deviations=np.where(known.constant[:, None], deviations, 0))
    best = fit_weights(prior, known, deviations)
    assert best.shape == (LAYERED,)
    assert 0 <= best.min() <= best.max() <= 1 << SHARES
    least = error(best)
    for group in range(LAYERED):
        for weight in {max(best[group] - 1, 0), min(best[group] + 1, 1 << SHARES)}:
            other = best.copy()
            other[group] = weight
            assert least <= error(other) * (1 + 1e-4)


def test_without_other_frames_there_are_no_weights() -> None:
    prior, random = random_prior(np.random.default_rng(0), 2, 9), np.random.default_rng(1)
    known = Known(places([0, 12], [(1, 1, 3, 4)], 0, 12), np.zeros(12, np.bool_), np.zeros((12, 9), np.int64))
    assert not known.layered
    assert not fit_weights(prior, known, random.integers(-99, 99, (12, 9))).any()
