"""What base networks expect of their latents, learned from latents of which it is known what there is to expect."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compresskit.codec import learnprior
from compresskit.codec.latentcode import LatentCode
from compresskit.codec.latentprior import GUESS_FRACTION, LatentPrior, latents_of
from compresskit.codec.latentscan import LAYERED, Known
from compresskit.codec.learnprior import Blocks, learn_prior
from compresskit.codec.neighbours import places

UNIT = 1 << 16
STEPS = {bits: UNIT >> bits - 3 for bits in range(3, 13)}
BITS = 6


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learnprior, "STEPS", 250)
    monkeypatch.setattr(learnprior, "BATCH", 128)
    monkeypatch.setattr(learnprior, "WEIGHED", 512)


def learned(blocks: Blocks, seed: int = 0) -> LatentPrior:
    return learn_prior(blocks, STEPS, np.zeros((2, blocks.deviations.shape[2]), np.int64), seed)


def smooth(counts: tuple[int, ...], blocks: int, latents: int, seed: int) -> Blocks:
    """Fields of which each place, given its neighbours along any one axis, is a linear function of these and noise that nothing tells.

    Mixtures of as many sequences, of which each goes on by its own part (autoregression of order 1), along all axes.
    """
    random = np.random.default_rng(seed)
    goes_on = np.linspace(0.95, -0.6, latents)
    fields = random.normal(0, 1, (blocks, *counts, latents))
    for axis in range(1, len(counts) + 1):
        moved = np.moveaxis(fields, axis, 0)
        for index in range(1, len(moved)):
            moved[index] = goes_on * moved[index - 1] + np.sqrt(1 - goes_on**2) * moved[index]
    return Blocks(counts, np.rint(fields @ mixture(latents) * UNIT).astype(np.int64).reshape(blocks, -1, latents))


def mixture(latents: int) -> np.ndarray:
    """Some rotation: latents look at others of their neighbours, not only at themselves."""
    return np.asarray(np.linalg.qr(np.random.default_rng(99).normal(size=(latents, latents)))[0])


def pairs(blocks: Blocks, which: int) -> tuple[np.ndarray, np.ndarray]:
    """Of all patches with both neighbours along the axes of a set: these neighbours, as maps take them, and the patches."""
    latents = blocks.deviations.shape[2]
    fields = blocks.deviations.reshape(len(blocks.deviations), *blocks.counts, latents).astype(np.float64)
    axes = [axis for axis in range(len(blocks.counts)) if which >> axis & 1]
    inside = [slice(1, -1) if axis in axes else slice(None) for axis in range(len(blocks.counts))]
    sides = []
    for axis in axes:
        for side in (slice(None, -2), slice(2, None)):
            near = list(inside)
            near[axis] = side
            sides.append(fields[(slice(None), *near)].reshape(-1, latents))
    return np.concatenate(sides, axis=1), fields[(slice(None), *inside)].reshape(-1, latents)


def missed(blocks: Blocks, which: int, map_: np.ndarray) -> float:
    near, wanted = pairs(blocks, which)
    return float(np.square(wanted - near @ map_).mean())


@pytest.mark.parametrize("counts", [(16,), (6, 5), (4, 3, 3)], ids=str)
def test_maps_guess_as_well_as_any_could(counts: tuple[int, ...]) -> None:
    prior, fresh = learned(smooth(counts, 1000, 6, 0)), smooth(counts, 1000, 6, 1)
    assert set(prior.maps) == set(range(1, 1 << len(counts)))
    assert prior.fits(len(counts), 6)
    for which, map_ in prior.maps.items():
        # No map makes less of the patches that it is tried on than the regression on these very patches.
        least = missed(fresh, which, np.linalg.lstsq(*pairs(fresh, which), rcond=None)[0])
        assert missed(fresh, which, np.ldexp(map_.astype(np.float64), -GUESS_FRACTION)) < 1.06 * least
        assert least < 0.7 * float(np.square(fresh.deviations).mean())


def test_the_map_of_an_autoregression_is_found() -> None:
    """Between its neighbours, such a sequence is expected at rho / (1 + rho**2) of their sum."""
    prior, rotation, goes_on = learned(smooth((16,), 1000, 6, 0)), mixture(6), np.linspace(0.95, -0.6, 6)
    true = rotation.T @ np.diag(goes_on / (1 + goes_on**2)) @ rotation
    found = np.ldexp(prior.maps[1].astype(np.float64), -GUESS_FRACTION)
    np.testing.assert_allclose(found, np.concatenate([true, true]), atol=0.05)


def test_latents_that_never_vary_tell_nothing() -> None:
    blocks = smooth((9,), 40, 4, 0)
    blocks.deviations[..., 2] = 0
    map_ = learned(blocks).maps[1].reshape(2, 4, 4)
    assert not map_[:, 2].any()
    assert not map_[:, :, 2].any()
    assert map_[:, [0, 1, 3]].any()


def test_blocks_too_short_for_neighbours_on_both_sides_have_no_maps() -> None:
    assert set(learned(smooth((4, 2), 40, 5, 0)).maps) == {1}
    assert not learned(smooth((1,), 80, 5, 0)).maps


def lively(count: int, seed: int, latents: int = 24, patches: int = 8) -> Blocks:
    """Latents around 0, which nothing tells, of magnitudes that fall off and differ from block to block and from patch to patch."""
    random = np.random.default_rng(seed)
    scales = np.exp(random.normal(0, 1, (count, 1, 1)) + random.normal(0, 0.7, (count, patches, 1))) / (1 + np.arange(latents) / 6)
    return Blocks((patches,), np.rint(random.laplace(0, scales) * UNIT / 4).astype(np.int64))


def coded(prior: LatentPrior, blocks: Blocks) -> int:
    """Bytes of all blocks, side by side, as one item each."""
    count, patches, latents = blocks.deviations.shape
    rows = blocks.deviations.reshape(-1, latents)
    near = places([patches * index for index in range(count + 1)], [(1, 1, patches)] * count, 0, len(rows))
    known = Known(near, np.zeros(len(rows), np.bool_), np.zeros_like(rows))
    code, weights = LatentCode(prior, BITS, STEPS[BITS]), np.zeros(LAYERED, np.int64)
    rounded = code.scan(known, weights, lambda part, band, _, guesses: np.rint((rows[part, band] - guesses) / code.step).astype(np.int64))[1]
    return len(code.encode(known, rounded, weights))


def usual(blocks: Blocks) -> np.ndarray:
    """The mean magnitudes of values, in 2**-8: what is expected where nothing else tells."""
    return np.tile(np.abs(blocks.deviations / STEPS[BITS]).mean(axis=(0, 1)) * 256, (2, 1)).astype(np.int64)


def test_what_coarser_latents_and_neighbours_tell_saves_bytes() -> None:
    prior, fresh = learned(lively(200, 0)), lively(60, 1)
    nothing = np.zeros(prior.latents, np.int64)
    blind = replace(prior, own=np.zeros_like(prior.own), near=nothing, rest={BITS: usual(lively(200, 0))})
    assert coded(prior, fresh) < 0.94 * coded(blind, fresh)


def test_neighbours_count() -> None:
    """Where a whole block is as lively as its patches, what neighbours have tells of the first latents, which have no coarser ones."""
    prior = learned(lively(200, 0, latents=2))
    assert prior.near.min() > 400
    assert coded(prior, lively(60, 1, latents=2)) < coded(learned(lively(200, 0, latents=2, patches=1)), lively(60, 1, latents=2))


def test_only_coarser_latents_of_a_patch_are_looked_at() -> None:
    own = learned(lively(60, 0)).own
    assert not np.tril(own).any()
    assert (np.triu(own, 8) > 0).any()


def test_without_neighbours_in_the_data_usual_weights_stand_in() -> None:
    prior = learned(lively(200, 0, patches=1))
    assert (prior.share == round(4096 * learnprior.USUAL_SHARE)).all()
    assert (prior.near == round(4096 * learnprior.USUAL_NEAR)).all()
    assert all(np.array_equal(*rest) for rest in prior.rest.values())


def test_the_same_data_and_seed_give_the_same_prior() -> None:
    one, other = (learned(lively(60, 0)).tensors() for _ in range(2))
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_latents_are_within_the_limit() -> None:
    found = latents_of(np.array([[0.5, -1e9, 1e9]]), np.array([1 << 14, 0, 0]))
    assert found.tolist() == [[1 << 14, 1 - 2**25, 2**25 - 1]]
