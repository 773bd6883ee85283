"""From fitted latents to bins: rounded for rate and distortion, then fitted again around what rounding made of them.

    latents --choose--> bins --network--> error and gradient --step--> latents --choose--> bins ...

A step is that of `fit.fit`, from the rounded latents; a patch keeps the bins of the least error + price x bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compresskit.cluster import HERE, Workers
from compresskit.codec.base import Base
from compresskit.codec.chunks import known_of
from compresskit.codec.coinpp import Layout, frame_of, one_colour, signal_errors
from compresskit.codec.latentcode import LatentCode
from compresskit.codec.latentprior import fit_weights
from compresskit.codec.neighbours import places
from compresskit.codec.patchcode import LATENT_CHUNK, SYMBOL_CHUNK
from compresskit.codec.prior import typical_magnitudes
from compresskit.codec.quantize import LATENT_FRACTION
from compresskit.codec.rounding import PRICE, Code, ContextCode, Floats, Integers, PredictedCode, PredictedPrices, Prices, TableCode
from compresskit.codec.settings import Effort
from compresskit.errors import InputError
from compresskit.progress import SILENT, Progress

DAMPING, LOWER, RAISE = 0.001, 0.5, 4.0
"""As in `fit`: less at first, as the latents are nearly there."""

Errors = Callable[[NDArray[np.float32]], tuple[Floats, Floats]]
"""From latents (P, L) to mean squared errors (P,) and half their gradients (P, L)."""


@dataclass(frozen=True, eq=False)
class ChunkCodes:
    """The code of patches that lie in several chunks, each with so many patches."""

    parts: Sequence[tuple[int, Code]]

    def seeing(self, values: Integers) -> ChunkPrices:
        """As in `Code`."""
        parts = _split(values, [count for count, _ in self.parts])
        return ChunkPrices([code.seeing(part) for (_, code), part in zip(self.parts, parts, strict=True)])


@dataclass(frozen=True, eq=False)
class ChunkPrices:
    """`Prices` of patches that lie in several chunks."""

    parts: Sequence[Prices]

    @property
    def bits(self) -> Floats:
        """As in `Prices`."""
        return np.concatenate([prices.bits for prices in self.parts])

    def choose(self, targets: Floats) -> Integers:
        """As in `Prices`."""
        parts = _split(targets, [len(prices.bits) for prices in self.parts])
        return np.concatenate([prices.choose(part) for prices, part in zip(self.parts, parts, strict=True)])


def _split(rows: NDArray[Any], counts: Sequence[int]) -> list[NDArray[Any]]:
    return np.split(rows, list(accumulate(counts))[:-1])


@dataclass(frozen=True, eq=False)
class Fitted:
    """A signal with its latents.

    Attributes:
        levels: (frames, *spatial, channels).
        lay: how they lie in patches.
        latents: (patches, L); zeros for patches of one level.
    """

    levels: NDArray[np.integer]
    lay: Layout
    latents: NDArray[np.float32]


def round_signals(
    base: Base,
    bits: float,
    signals: Sequence[Fitted],
    effort: Effort,
    *,
    contexts: bool,
    progressive: bool = False,
    workers: Workers = HERE,
    progress: Progress = SILENT,
) -> tuple[list[NDArray[np.int32]], list[Integers]]:
    """The latents (patches, L) in integers of all patches of each signal; those of patches of one level mean nothing.

    Args:
        base: the base network.
        bits: of the stream.
        signals: of one stream.
        effort: how hard to try.
        contexts: whether symbols are coded in contexts, or under the base network's tables.
        progressive: whether one chunk holds all patches, coarse latents first.
        workers: who evaluates for refinement, a signal at a time each.
        progress: of patches, of evaluations for refinement.

    Returns:
        The latents, and for each chunk the weights of frames and planes where latents are predicted with such.

    Raises:
        InputError: a latent is NaN or infinite.
    """
    latents = np.concatenate([signal.latents for signal in signals])
    firsts = [0, *accumulate(len(signal.latents) for signal in signals)]
    flat = [one_colour(base, signal.levels, signal.lay) for signal in signals] if base.prior is not None else []
    varied = ~np.concatenate([constant for constant, _ in flat]) if flat else (latents != 0).any(axis=1)

    def errors(chosen: NDArray[np.float32]) -> tuple[Floats, Floats]:
        everywhere = np.zeros_like(latents)
        everywhere[varied] = chosen
        parts = np.split(everywhere, firsts[1:-1])
        calls = [partial(signal_errors, base, part, signal.levels, signal.lay) for signal, part in zip(signals, parts, strict=True)]
        found = workers.share(calls)
        losses, gradients = (np.concatenate(part)[varied].astype(np.float64) for part in zip(*found, strict=True))
        progress.advance(len(chosen))
        return losses, gradients

    if effort.refinements:
        progress.stage("refine", int(np.count_nonzero(varied)) * (1 + effort.refinements))
    if base.prior is not None:
        colours = np.concatenate([colours for _, colours in flat])
        chunks = _predicted(base, bits, [signal.lay for signal in signals], firsts, ~varied, colours, latents, progressive=progressive)
        found = _rounded(base, bits, latents, varied, chunks, effort, errors)
        return np.split(found, firsts[1:-1]), [chunk.weights for chunk in chunks]
    grids = [signal.lay.grid(base) for signal in signals]
    code = ChunkCodes(
        [_chunk_code(base.tables[int(bits)], firsts, grids, varied, begin, contexts=contexts) for begin in range(0, len(latents), SYMBOL_CHUNK)]
    )
    symbols = np.zeros(latents.shape, np.int32)
    symbols[varied] = round_latents(base, int(bits), latents[varied], code, effort, errors)
    return np.split(base.quantizer(int(bits)).latents(symbols).astype(np.int32), firsts[1:-1]), []


def _predicted(
    base: Base,
    bits: float,
    layouts: Sequence[Layout],
    firsts: Sequence[int],
    constant: NDArray[np.bool_],
    colours: Integers,
    latents: NDArray[np.float32],
    *,
    progressive: bool,
) -> list[PredictedCode]:
    """The codes of all chunks, for the fitted `latents` (patches, L) and the `colours` (constant patches, channels) of constant patches."""
    assert base.prior is not None
    code = LatentCode(base.prior, bits, base.steps[bits], progressive)
    size = max(len(latents), 1) if progressive else LATENT_CHUNK
    fitted = np.rint(np.ldexp(latents.astype(np.float64), LATENT_FRACTION)).astype(np.int64) - base.centers
    chunks = []
    for begin in range(0, len(latents), size):
        part = slice(begin, min(begin + size, len(latents)))
        inside = slice(*(int(np.count_nonzero(constant[:index])) for index in (part.start, part.stop)))
        known = known_of(base.prior, constant[part], colours[inside], frame_of(base, layouts, firsts, part.start, part.stop))
        chunks.append(PredictedCode(code, known, fit_weights(base.prior, known, np.where(constant[part, None], known.deviations, fitted[part]))))
    return chunks


def _rounded(
    base: Base, bits: float, latents: NDArray[np.float32], varied: NDArray[np.bool_], chunks: Sequence[PredictedCode], effort: Effort, errors: Errors
) -> NDArray[np.int32]:
    """Latents (patches, L) in integers, on the grids around what is predicted of them."""
    step, centers = base.steps[bits] / 2**LATENT_FRACTION, base.centers / 2**LATENT_FRACTION
    if not np.isfinite(latents).all():
        raise InputError("cannot quantize latents that are not finite: the samples are too extreme")
    sizes = [len(chunk.known.places) for chunk in chunks]

    def chosen(targets: Floats, prices: Sequence[PredictedPrices] | None) -> tuple[list[Integers], Integers]:
        parts = _split(targets, sizes)
        found = (
            [one.nearest(part) for one, part in zip(chunks, parts, strict=True)]
            if prices is None
            else [one.choose(part) for one, part in zip(prices, parts, strict=True)]
        )
        return [values for values, _ in found], np.concatenate([deviations for _, deviations in found])

    def seen(values: Sequence[Integers]) -> list[PredictedPrices]:
        return [chunk.seeing(part) for chunk, part in zip(chunks, values, strict=True)]

    targets = (latents - centers) / step
    values, deviations = chosen(targets, None)
    for _ in range(effort.passes):
        values, deviations = chosen(targets, seen(values))
    if not (effort.refinements and varied.any()):
        return (deviations + base.centers).astype(np.int32)

    def evaluated(values: Sequence[Integers], deviations: Integers) -> tuple[list[PredictedPrices], float, Floats]:
        prices, (loss, gradient) = seen(values), errors(np.ldexp(deviations[varied] + base.centers, -LATENT_FRACTION).astype(np.float32))
        bits_ = sum(float(part.bits.sum()) for part in prices)
        return prices, float(loss.sum()) + PRICE * step**2 * bits_, gradient

    prices, cost, gradient = evaluated(values, deviations)
    for _ in range(effort.refinements):
        targets = np.ldexp(deviations.astype(np.float64), -LATENT_FRACTION) / step
        targets[varied] -= gradient / step
        trial = chosen(targets, prices)
        prices, trial_cost, trial_gradient = evaluated(*trial)
        if trial_cost < cost:
            (values, deviations), cost, gradient = trial, trial_cost, trial_gradient
    return (deviations + base.centers).astype(np.int32)


def _chunk_code(
    tables: NDArray[np.uint32], firsts: Sequence[int], grids: Sequence[tuple[int, ...]], varied: NDArray[np.bool_], begin: int, *, contexts: bool
) -> tuple[int, Code]:
    """How many patches of the chunk that starts at `begin` are coded, and how; other arguments are those of `places`."""
    kept = varied[begin : begin + SYMBOL_CHUNK]
    if not contexts:
        return int(np.count_nonzero(kept)), TableCode(tables)
    lying = places(firsts, grids, begin, begin + len(kept)).only(kept)
    return len(lying), ContextCode(lying, typical_magnitudes(tables), tables.shape[1] // 2)


def round_latents(base: Base, bits: int, latents: NDArray[np.float32], code: Code, effort: Effort, errors: Errors) -> NDArray[np.int32]:
    """The symbols (P, L) of `bits` bits for `latents` (P, L).

    Raises:
        InputError: a latent is NaN or infinite.
    """
    limit, step = 1 << bits - 1, base.steps[bits] / 2**LATENT_FRACTION
    centers = base.centers / 2**LATENT_FRACTION
    values = base.quantizer(bits).symbols(latents).astype(np.int64) - limit
    targets = (latents - centers) / step
    for _ in range(effort.passes):
        values = code.seeing(values).choose(targets)
    if effort.refinements and len(values):
        values = _refined(values, base, step, centers, code, effort.refinements, errors)
    return (values + limit).astype(np.int32)


def _refined(values: Integers, base: Base, step: float, centers: Floats, code: Code, refinements: int, errors: Errors) -> Integers:
    narrow = np.square(base.spread.max() / base.spread)

    def evaluated(values: Integers) -> tuple[Prices, Floats, Floats]:
        prices, (loss, gradient) = code.seeing(values), errors((values * step + centers).astype(np.float32))
        return prices, loss + PRICE * step**2 * prices.bits, gradient

    prices, cost, gradient = evaluated(values)
    damping = np.full((len(values), 1), DAMPING)
    for _ in range(refinements):
        trial = prices.choose(values - gradient / ((1 + damping * narrow) * step))
        prices, trial_cost, trial_gradient = evaluated(trial)  # those after `values` themselves are hardly others, and take a pass more
        better = (trial_cost < cost)[:, None]
        values, gradient = np.where(better, trial, values), np.where(better, trial_gradient, gradient)
        cost, damping = np.minimum(trial_cost, cost), np.where(better, damping * LOWER, damping * RAISE)
    return values
