"""What a base network expects of its latents, learned from patches that lie next to each other.

    blocks of patches --fit--> latents --regression on neighbours' rounded ones--> maps
                                  └──scan with these maps, rounded──> values --maximum likelihood--> weights of magnitudes

Maps are ridge regressions, one for each set of axes. A value of expected magnitude m is taken to be geometric in its zigzag code, of mean 2 m,
as the tables of all contexts begin; the sum of weighted magnitudes that m is, is found by Adam, for all numbers of bits together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from compresskit.codec.config import HALF_BITS, LATENT_BITS
from compresskit.codec.contexts import SCALE_BITS
from compresskit.codec.latentprior import FEATURES, GUESS_FRACTION, WEIGHT_FRACTION, LatentPrior
from compresskit.codec.latentscan import LAYERED, Known, scan, summed
from compresskit.codec.neighbours import places
from compresskit.codec.prior import bands

GUESSED = 192
"""Latents that are guessed, at most."""

DEAD_ZONE = 0.65  # of a bin, below which latents are rounded to zero: about what rounding for rate and distortion does
MAP_BITS = (6, 7, 8)  # at which neighbours are rounded while maps are learned
RIDGE = 0.05  # squared bins
WEIGHED = 8192  # patches that weights are learned from
STEPS, BATCH, RATE = 2_000, 512, 0.03
USUAL_SHARE, USUAL_NEAR = 0.75, 0.25  # where no neighbours were seen
_MOST = (1 << 15) - 1

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Blocks:
    """Latents of patches that lie next to each other.

    Attributes:
        counts: patches of a block along each axis.
        deviations: (blocks, patches of a block, L) latents less their centres, in units of 2**-16.
    """

    counts: tuple[int, ...]
    deviations: Integers


def learn_prior(blocks: Blocks, steps: Mapping[float, int], flat: Integers, seed: int) -> LatentPrior:
    """Learn maps and weights.

    Args:
        blocks: of the training data.
        steps: between two values, for each number of bits in HALF_BITS.
        flat: as in `LatentPrior`.
        seed: of the order in which patches are looked at.
    """
    latents = blocks.deviations.shape[2]
    nothing, unknown = np.zeros(latents, np.int64), np.zeros((2, latents), np.int64)
    maps = dict(_maps(blocks, steps))
    bare = LatentPrior(maps, np.zeros((latents, latents), np.int64), nothing, nothing, dict.fromkeys(HALF_BITS, unknown), flat)
    count = math.prod(blocks.counts)
    some = blocks.deviations[: max(WEIGHED // count, 1)]
    near = places([index * count for index in range(len(some) + 1)], [(1, 1, *blocks.counts)] * len(some), 0, len(some) * count)
    flatly = some.reshape(-1, latents)
    known = Known(near, np.zeros(len(flatly), np.bool_), np.zeros_like(flatly))
    values = np.stack([_values(bare, known, flatly, bits, steps[bits]) for bits in LATENT_BITS])
    return _weighted(bare, known, values, seed)


def _maps(blocks: Blocks, steps: Mapping[float, int]) -> Iterator[tuple[int, Integers]]:
    """For each set of axes, its map from neighbours."""
    axes, latents = len(blocks.counts), blocks.deviations.shape[2]
    grid = blocks.deviations.reshape(len(blocks.deviations), *blocks.counts, latents).astype(np.float64)
    looked_at, guessed = min(FEATURES, latents), min(GUESSED, latents)
    for which in range(1, 1 << axes):
        along = [axis for axis in range(axes) if which >> axis & 1]
        if min(blocks.counts[axis] for axis in along) < 3:
            continue
        features = 2 * len(along) * looked_at
        gram, product = np.zeros((features, features)), np.zeros((features, guessed))
        inside = tuple(slice(1, -1) if axis in along else slice(None) for axis in range(axes))
        for bits in MAP_BITS:
            step = steps[bits]
            rounded = _dead_zone(grid[..., :looked_at] / step) * step
            sides = [rounded[(slice(None), *_shifted(inside, axis, side))] for axis in along for side in (-1, 1)]
            known = np.concatenate([side.reshape(-1, looked_at) for side in sides], axis=1)
            wanted = grid[(slice(None), *inside)].reshape(-1, latents)[:, :guessed]
            gram += known.T @ known + RIDGE * step**2 * len(known) * np.eye(features)
            product += known.T @ wanted
        yield which, np.clip(np.rint(np.ldexp(np.linalg.solve(gram, product), GUESS_FRACTION)), -_MOST, _MOST).astype(np.int64)


def _shifted(inside: tuple[slice, ...], axis: int, side: int) -> tuple[slice, ...]:
    """The same patches, one before or one after along an axis whose ends are left out."""
    moved = slice(None, -2) if side < 0 else slice(2, None)
    return tuple(moved if index == axis else part for index, part in enumerate(inside))


def _dead_zone(bins: Floats) -> Floats:
    return np.sign(bins) * np.floor(np.abs(bins) + 1 - DEAD_ZONE)


def _values(prior: LatentPrior, known: Known, deviations: Integers, bits: int, step: int) -> Integers:
    """The values (P, L) that latents are rounded to."""

    def visit(rows: Integers, band: slice, _: NDArray[np.uint8], guesses: Integers) -> Integers:
        return _dead_zone((deviations[rows, band] - guesses) / step).astype(np.int64)

    return scan(prior, known, bits, step, np.zeros(LAYERED, np.int64), visit)[0]


def _weighted(prior: LatentPrior, known: Known, values: Integers, seed: int) -> LatentPrior:
    """`prior` with the weights under which `values` (numbers of bits, P, L) are likeliest."""
    (numbers, patches, latents), generator = values.shape, torch.Generator().manual_seed(seed)
    magnitudes = torch.from_numpy(np.abs(values)).float()
    near, count = (torch.from_numpy(part).float() for part in _near(known, np.abs(values)))
    coarser = torch.zeros(latents, latents)
    for band in bands(latents):
        coarser[: band.start, band] = 1
    own, beside = (torch.full(shape, start, requires_grad=True) for shape, start in (((latents, latents), -6.0), ((latents,), -2.0)))
    share, rest = torch.zeros(latents, requires_grad=True), torch.full((numbers, 2, latents), -2.0, requires_grad=True)
    optimizer = torch.optim.Adam([own, beside, share, rest], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        which, rows = (torch.randint(size, (BATCH,), generator=generator) for size in (numbers, patches))
        found, there = magnitudes[which, rows], (count[rows] > 0).unsqueeze(1)
        sums = found @ (F.softplus(own) * coarser)
        with_neighbours = sums * torch.exp(share) + near[which, rows] * F.softplus(beside) + F.softplus(rest[which, 1])
        loss = _bits(torch.where(there, with_neighbours, sums + F.softplus(rest[which, 0])), found) / BATCH
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    seen = [bool((count == 0).any()), bool((count > 0).any())]
    with torch.no_grad():
        added = np.rint(np.ldexp(F.softplus(rest).numpy(), SCALE_BITS)).astype(np.int64)
        if not all(seen):
            added[:, seen.index(False)] = added[:, seen.index(True)]
        usual = [np.full(latents, value) for value in (USUAL_SHARE, USUAL_NEAR)]
        parts = [(F.softplus(own) * coarser).numpy(), *((torch.exp(share).numpy(), F.softplus(beside).numpy()) if seen[1] else usual)]
        own_, share_, near_ = (np.clip(np.rint(np.ldexp(part, WEIGHT_FRACTION)), 0, _MOST).astype(np.int64) for part in parts)
    return LatentPrior(prior.maps, own_, share_, near_, _with_halves(added), prior.flat)


def _with_halves(rest: Integers) -> dict[float, Integers]:
    """From what is added at LATENT_BITS (10, 2, L) to what is at HALF_BITS: geometric means in between."""
    whole = dict(zip(map(float, LATENT_BITS), rest, strict=True))
    below, above = math.floor, math.ceil
    return {bits: np.rint(np.sqrt(whole[below(bits)] * whole[above(bits)])).astype(np.int64) for bits in HALF_BITS}


def _bits(expected: Tensor, magnitudes: Tensor) -> Tensor:
    """Bits of all values of those magnitudes, their signs even, under geometric zigzag codes of means 2 x `expected`."""
    mean = 2 * expected + 1e-3
    codes = torch.where(magnitudes > 0, 2 * magnitudes - 0.5, magnitudes)
    return (torch.log2(1 + mean) + codes * torch.log2((1 + mean) / mean)).sum()


def _near(known: Known, magnitudes: Integers) -> tuple[Floats, Floats]:
    """The mean magnitudes (numbers of bits, P, L) that known neighbours have, and how many (P,) these are."""
    extended = np.concatenate([magnitudes, np.zeros_like(magnitudes[:, :1])], axis=1)
    means, count = np.zeros(magnitudes.shape), np.zeros(magnitudes.shape[1])
    for turn in known.places.turns():
        means[:, turn.rows] = [summed(values, turn.earlier) / np.maximum(turn.known, 1)[:, None] for values in extended]
        count[turn.rows] = turn.known
    return means, count
