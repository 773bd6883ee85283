"""Which values predicted latents are rounded to: those that are worth their bits, chosen one after the other as they are coded.

A choice changes what is guessed, and what magnitudes are expected, of all latents that come after it: chunks are gone through as they are coded
(latentscan.scan), with what was guessed so far.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.base import Base
from compresskit.codec.chunks import known_of
from compresskit.codec.coinpp import Layout, frame_of
from compresskit.codec.contexts import token_lengths
from compresskit.codec.latentcode import LatentCode
from compresskit.codec.latentprior import latents_of
from compresskit.codec.latentscan import Known, fit_weights
from compresskit.codec.patchcode import chunk_size
from compresskit.codec.prior import INCREMENT
from compresskit.codec.quantize import LATENT_FRACTION
from compresskit.codec.rounding import PRICE, Floats, Integers
from compresskit.codec.settings import Effort
from compresskit.codec.tokens import split
from compresskit.errors import InputError

Errors = Callable[[NDArray[np.float32]], tuple[Floats, Floats]]
"""From latents (P, L) to mean squared errors (P,) and half their gradients (P, L)."""


@dataclass(frozen=True, eq=False)
class PredictedCode:
    """Predicted latents of a chunk.

    Attributes:
        code: of the stream.
        known: of the patches.
        weights: of frames and planes.
    """

    code: LatentCode
    known: Known
    weights: Integers

    def seeing(self, values: Integers) -> PredictedPrices:
        """The prices after `values` (P, L)."""
        contexts = np.zeros(values.shape, np.uint8)

        def visit(rows: Integers, band: slice, expected: NDArray[np.uint8], _: Integers) -> Integers:
            contexts[rows, band] = expected
            return values[rows, band]

        self.code.scan(self.known, self.weights, visit)
        coded = ~self.known.constant
        reach = max(int(np.abs(values).max(initial=0)), 1) + 1
        tokens, _, plain = split(np.roll(np.arange(-reach, reach), reach))
        lengths = token_lengths(contexts[coded].reshape(-1), split(values[coded].reshape(-1))[0], INCREMENT)[:, tokens] + plain
        return PredictedPrices(self, lengths, np.where(coded, lengths[contexts, values].sum(axis=1), 0.0))

    def nearest(self, targets: Floats) -> tuple[Integers, Integers]:
        """As `PredictedPrices.choose`, whatever the bits."""
        step = self.code.step
        return self.code.scan(self.known, self.weights, lambda rows, band, _, guesses: np.rint(targets[rows, band] - guesses / step).astype(np.int64))


@dataclass(frozen=True, eq=False)
class PredictedPrices:
    """What values of predicted latents cost under tables that have seen certain ones.

    Attributes:
        code: of the chunk.
        lengths: bits (contexts, values) of every value, negative ones from the end.
        bits: (P,) of the values that were seen.
    """

    code: PredictedCode
    lengths: Floats
    bits: Floats

    def choose(self, targets: Floats) -> tuple[Integers, Integers]:
        """Values (P, L), and the latents less their centres, for such latents `targets` (P, L) in steps."""
        step, reach = self.code.code.step, self.lengths.shape[1] // 2

        def visit(rows: Integers, band: slice, contexts: NDArray[np.uint8], guesses: Integers) -> Integers:
            wanted = targets[rows, band] - guesses / step
            near = np.clip(np.rint(wanted), 1 - reach, reach - 1).astype(np.int64)
            candidates = np.stack([near, near - np.sign(near), np.zeros_like(near)])
            costs = np.square(wanted - candidates) + PRICE * self.lengths[contexts, candidates]
            return np.take_along_axis(candidates, costs.argmin(axis=0)[None], axis=0)[0]

        return self.code.code.scan(self.code.known, self.code.weights, visit)


@dataclass(frozen=True, eq=False)
class _Chosen:
    """Values (P, L) of each chunk, and the latents less their centres (all patches, L) that they stand for."""

    values: list[Integers]
    deviations: Integers

    @classmethod
    def of(cls, found: Sequence[tuple[Integers, Integers]]) -> _Chosen:
        """What was found for each chunk."""
        return cls([values for values, _ in found], np.concatenate([deviations for _, deviations in found]))

    def prices(self, chunks: Sequence[PredictedCode]) -> list[PredictedPrices]:
        """Those after these values."""
        return [chunk.seeing(values) for chunk, values in zip(chunks, self.values, strict=True)]


def predicted_chunks(
    base: Base,
    code: LatentCode,
    layouts: Sequence[Layout],
    firsts: Sequence[int],
    constant: NDArray[np.bool_],
    colours: Integers,
    latents: NDArray[np.float32],
) -> list[PredictedCode]:
    """All chunks of a stream.

    Args:
        base: the base network.
        code: of the stream.
        layouts: of the items.
        firsts: the number of each item's first patch, and in the end the number of all.
        constant, colours: (patches,) which are of one colour, and (those patches, channels) of which.
        latents: (patches, L) as fitted.

    Raises:
        InputError: a latent is NaN or infinite.
    """
    if not np.isfinite(latents).all():
        raise InputError("cannot quantize latents that are not finite: the samples are too extreme")
    size = max(len(latents), 1) if code.progressive else chunk_size(base)
    fitted = latents_of(latents, base.centers)
    chunks = []
    for begin in range(0, len(latents), size):
        part = slice(begin, min(begin + size, len(latents)))
        inside = slice(*(int(np.count_nonzero(constant[:index])) for index in (part.start, part.stop)))
        known = known_of(code.prior, constant[part], colours[inside], frame_of(base, layouts, firsts, part.start, part.stop))
        weights = fit_weights(code.prior, known, np.where(constant[part, None], known.deviations, fitted[part]))
        chunks.append(PredictedCode(code, known, weights))
    return chunks


def round_predicted(
    latents: NDArray[np.float32], centers: Integers, varied: NDArray[np.bool_], chunks: Sequence[PredictedCode], effort: Effort, errors: Errors
) -> NDArray[np.int32]:
    """Latents (patches, L) in integers, on the grids around what is guessed of them.

    Args:
        latents: (patches, L) as fitted.
        centers: (L,) of them, in units of 2**-16.
        varied: (patches,) which are not of one colour.
        chunks: of all patches.
        effort: how hard to try.
        errors: of latents of the patches that are varied.
    """
    step = chunks[0].code.step / 2**LATENT_FRACTION
    sizes = list(accumulate(len(chunk.known.places) for chunk in chunks))[:-1]

    def chosen(targets: Floats, prices: Sequence[PredictedPrices]) -> _Chosen:
        return _Chosen.of([one.choose(part) for one, part in zip(prices, np.split(targets, sizes), strict=True)])

    def evaluated(trial: _Chosen) -> tuple[list[PredictedPrices], float, Floats]:
        prices, (loss, gradient) = trial.prices(chunks), errors(np.ldexp(trial.deviations[varied] + centers, -LATENT_FRACTION).astype(np.float32))
        return prices, float(loss.sum()) + PRICE * step**2 * sum(float(part.bits.sum()) for part in prices), gradient

    targets = (latents - np.ldexp(centers, -LATENT_FRACTION)) / step
    best = _Chosen.of([chunk.nearest(part) for chunk, part in zip(chunks, np.split(targets, sizes), strict=True)])
    for _ in range(effort.passes):
        best = chosen(targets, best.prices(chunks))
    if effort.refinements and varied.any():
        prices, cost, gradient = evaluated(best)
        for _ in range(effort.refinements):
            targets = np.ldexp(best.deviations, -LATENT_FRACTION) / step
            targets[varied] -= gradient / step
            trial = chosen(targets, prices)
            prices, trial_cost, trial_gradient = evaluated(trial)
            if trial_cost < cost:
                best, cost, gradient = trial, trial_cost, trial_gradient
    return (best.deviations + centers).astype(np.int32)
