"""Latents one after the other, as neighbours and coarser latents of their patch let expect them.

    latent = centre + guess + step x value

    guess       a linear map of what patches next to it are; along frames and planes, a mean of these
    magnitude   of the value: a weighted sum of those of the coarser latents of its patch and of what neighbours have

Turn after turn of patches (neighbours.py), and band after band of their latents: each step is one call of the coder. Everything is integer
arithmetic, so that every machine finds the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.contexts import SCALE_BITS, contexts_of
from compresskit.codec.latentprior import GUESS_FRACTION, LIMIT, WEIGHT_FRACTION, Integers, LatentPrior
from compresskit.codec.neighbours import NONE, SPATIAL, Places, Turn
from compresskit.codec.prior import bands

SHARES = 3
"""Bits after the binary point of what frames and planes weigh beside neighbours in space: 0 to 1."""

LAYERED = 9
"""Latents with a weight of their own for frames and planes: the first 8, then all others together."""

_MAGNITUDE = 2**13  # of a value, as far as expectations look at it
_FIRST_LAYER = 8  # latents of the first layer of progressive streams; each one after it ends where twice as many do

Visit = Callable[[Integers, slice, NDArray[np.uint8], Integers], Integers]
"""From rows, a band of latents, and their contexts and guesses (rows, band) to their values (rows, band)."""


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of the patches of a chunk before any latent is.

    Attributes:
        places: where they lie.
        constant: (P,) which are of one colour.
        deviations: (P, L) of these the latents less their centres, in units of 2**-16; 0 for the others.
    """

    places: Places
    constant: NDArray[np.bool_]
    deviations: Integers

    @property
    def layered(self) -> bool:
        """Whether any patch has neighbours in other frames or planes."""
        return any(kind < SPATIAL for kind in self.places.kinds)


def layers(latents: int, *, progressive: bool) -> Iterator[slice]:
    """Latents that are coded of all patches before any others are."""
    end = _FIRST_LAYER if progressive else latents
    begin = 0
    while begin < latents:
        yield slice(begin, min(end, latents))
        begin, end = end, 2 * end


def scan(
    prior: LatentPrior, known: Known, bits: float, step: int, weights: Integers, visit: Visit, *, progressive: bool = False
) -> tuple[Integers, Integers]:
    """Go through all latents in the order of coding.

    Args:
        prior: the base network's.
        known: of the patches.
        bits: of the stream.
        step: between two values, in units of 2**-16.
        weights: (LAYERED,) of frames and planes, in units of 2**-SHARES.
        visit: finds out the values of some, which everything after them depends on.
        progressive: coarse latents of all patches before finer ones of any.

    Returns:
        The values (P, L) and the latents less their centres (P, L), in units of 2**-16.
    """
    # Behind the last patch is one of zeros, to which neighbours that are not there refer.
    values = np.zeros((len(known.places) + 1, prior.latents), np.int64)
    deviations = np.append(known.deviations, np.zeros((1, prior.latents), np.int64), axis=0)
    turns = [turn for turn in (_without(turn, known.constant) for turn in known.places.turns()) if len(turn.rows)]
    coarser = [_Coarser(prior, len(turn.rows)) for turn in turns]
    for layer in layers(prior.latents, progressive=progressive):
        for turn, own in zip(turns, coarser, strict=True):
            guesses, near = _guesses(prior, known, turn, deviations, weights, layer), _near(values, turn, layer)
            for band in bands(prior.latents):
                if layer.start <= band.start < layer.stop:
                    inside = slice(band.start - layer.start, band.stop - layer.start)
                    contexts = contexts_of(_expected(prior, own.weighed(band), turn, near[:, inside], bits, band))
                    found = visit(turn.rows, band, contexts, guesses[:, inside])
                    own.add(band, found)
                    values[turn.rows, band] = found
                    deviations[turn.rows, band] = guesses[:, inside] + found * step
    return values[:-1], deviations[:-1]


class _Coarser:
    """Weighted magnitudes (R, L) of the latents so far. Sums of products are below 2**53: exact in float64, for which there is a BLAS."""

    def __init__(self, prior: LatentPrior, rows: int) -> None:
        self._weights = prior.own_in_floats
        self._sums = self._weights.new_zeros((rows, prior.latents))

    def add(self, band: slice, values: Integers) -> None:
        """Count the values (R, band) of a band."""
        import torch

        magnitudes = torch.from_numpy(np.minimum(np.abs(values), _MAGNITUDE).astype(np.float64))
        self._sums[:, band.stop :].addmm_(magnitudes, self._weights[band, band.stop :])

    def weighed(self, band: slice) -> Integers:
        """The sums (R, band), in units of 2**-SCALE_BITS."""
        return self._sums[:, band].numpy().astype(np.int64) >> WEIGHT_FRACTION - SCALE_BITS


def fit_weights(prior: LatentPrior, known: Known, deviations: Integers) -> Integers:
    """Weights (LAYERED,) of frames and planes with which guesses are nearest to the latents less their centres, `deviations` (P, L)."""
    weights = np.zeros(LAYERED, np.int64)
    if not known.layered:
        return weights
    everything = np.append(deviations, np.zeros((1, prior.latents), np.int64), axis=0)
    all_latents, products, squares = slice(0, prior.latents), np.zeros(prior.latents), np.zeros(prior.latents)
    for turn in (_without(turn, known.constant) for turn in known.places.turns()):
        here, there = (_guesses(prior, known, turn, everything, np.full(LAYERED, weight), all_latents) for weight in (0, 1 << SHARES))
        change = (there - here).astype(np.float64)
        products += (change * (deviations[turn.rows] - here)).sum(axis=0)
        squares += np.square(change).sum(axis=0)
    groups = np.minimum(np.arange(prior.latents), LAYERED - 1)
    sums, scales = (np.bincount(groups, part, LAYERED) for part in (products, squares))
    return np.clip(np.rint(sums / np.maximum(scales, 1) * (1 << SHARES)), 0, 1 << SHARES).astype(np.int64)


def _without(turn: Turn, constant: NDArray[np.bool_]) -> Turn:
    """A turn without the patches of one colour: there is nothing to code."""
    kept = ~constant[turn.rows]
    return Turn(turn.rows[kept], turn.earlier[kept], turn.known[kept])


def _near(values: Integers, turn: Turn, layer: slice) -> Integers:
    """The mean magnitudes (R, layer) that known neighbours have, in units of 2**-SCALE_BITS; 0 without any."""
    if not turn.known.any():
        return np.zeros((len(turn.rows), layer.stop - layer.start), np.int64)
    return (summed(np.minimum(np.abs(values[:, layer]), _MAGNITUDE), turn.earlier) << SCALE_BITS) // np.maximum(turn.known, 1)[:, None]


def summed(values: Integers, near: Integers) -> Integers:
    """Sums (R, F) of `values` (P + 1, F) over the patches `near` (R, axes, 2)."""
    result = np.zeros((len(near), values.shape[1]), np.int64)
    for part in near.reshape(len(near), -1).T:
        result += values[part]
    return result


def _expected(prior: LatentPrior, own: Integers, turn: Turn, near: Integers, bits: float, band: slice) -> Integers:
    """Magnitudes (R, band) that are expected of values, in units of 2**-SCALE_BITS, for those that coarser latents and neighbours suggest."""
    with_neighbours = (own * prior.share[band] + near * prior.near[band] >> WEIGHT_FRACTION) + prior.rest[bits][1, band]
    return np.where(turn.known[:, None] > 0, with_neighbours, own + prior.rest[bits][0, band])


def _guesses(prior: LatentPrior, known: Known, turn: Turn, deviations: Integers, weights: Integers, layer: slice) -> Integers:
    """Guesses (R, layer) of latents less their centres, for the `deviations` (P + 1, L) so far."""
    kinds = np.array(known.places.kinds, np.int64)
    spatial = np.flatnonzero(kinds >= SPATIAL)
    guesses = np.zeros((len(turn.rows), layer.stop - layer.start), np.int64)
    there = (turn.earlier != NONE).any(axis=2)
    sets = there[:, spatial].astype(np.int64) @ (1 << kinds[spatial] - SPATIAL)
    for which in np.unique(sets):
        if int(which) in prior.maps:
            rows = np.flatnonzero(sets == which)
            near = turn.earlier[rows][:, spatial[which >> kinds[spatial] - SPATIAL & 1 == 1]]
            both = np.where(near == NONE, near[..., ::-1], near).reshape(len(rows), -1)
            guesses[rows] = _mapped(deviations, both, prior.maps[int(which)], layer)
    other = np.flatnonzero(kinds < SPATIAL)
    if there[:, other].any():
        count = np.count_nonzero(turn.earlier[:, other] != NONE, axis=(1, 2))[:, None]
        means = (2 * summed(deviations[:, layer], turn.earlier[:, other]) + count) // np.maximum(2 * count, 1)
        by_latent = weights[np.minimum(np.arange(layer.start, layer.stop), LAYERED - 1)]
        guesses = np.where(count > 0, guesses + ((means - guesses) * by_latent + (1 << SHARES - 1) >> SHARES), guesses)
    return np.clip(guesses, 1 - LIMIT, LIMIT - 1)


def _mapped(deviations: Integers, near: Integers, map_: Integers, layer: slice) -> Integers:
    """What a map guesses (R, layer) from the patches `near` (R, 2 x axes)."""
    import torch

    looked_at = len(map_) // near.shape[1]
    inputs = deviations[:, :looked_at][near].reshape(len(near), -1)
    result = np.zeros((len(near), layer.stop - layer.start), np.int64)
    columns = map_[:, layer].astype(np.float64)
    # Exact in float64: the products' sums are below 2**53.
    sums = (torch.from_numpy(inputs.astype(np.float64)) @ torch.from_numpy(columns)).numpy().astype(np.int64)
    result[:, : columns.shape[1]] = sums + (1 << GUESS_FRACTION - 1) >> GUESS_FRACTION
    return result
