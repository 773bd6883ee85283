"""From fitted latents to bins: rounded for rate and distortion, then fitted again around what rounding made of them.

    latents --choose--> bins --network--> error and gradient --step--> latents --choose--> bins ...

A step is that of `fit.fit`, from the rounded latents; a patch keeps the bins of the least error + price x bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compresskit.cluster import HERE, Workers
from compresskit.codec.base import Base
from compresskit.codec.coinpp import Layout, latent_code, one_colour, signal_errors
from compresskit.codec.neighbours import places
from compresskit.codec.patchcode import SYMBOL_CHUNK
from compresskit.codec.prior import typical_magnitudes
from compresskit.codec.quantize import LATENT_FRACTION
from compresskit.codec.rounding import PRICE, Code, ContextCode, Floats, Integers, Prices, TableCode
from compresskit.codec.roundpredicted import Errors, predicted_chunks, round_predicted
from compresskit.codec.settings import Effort
from compresskit.progress import SILENT, Progress

DAMPING, LOWER, RAISE = 0.001, 0.5, 4.0
"""As in `fit`: less at first, as the latents are nearly there."""


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
        predicted = latent_code(base, bits, progressive=progressive)
        flatly = ~varied, np.concatenate([colours for _, colours in flat])
        chunks = predicted_chunks(base, predicted, [signal.lay for signal in signals], firsts, *flatly, latents)
        found = round_predicted(latents, base.centers, varied, chunks, effort, errors)
        return np.split(found, firsts[1:-1]), [chunk.weights for chunk in chunks]
    grids = [signal.lay.grid(base) for signal in signals]
    code = ChunkCodes(
        [_chunk_code(base.tables[int(bits)], firsts, grids, varied, begin, contexts=contexts) for begin in range(0, len(latents), SYMBOL_CHUNK)]
    )
    symbols = np.zeros(latents.shape, np.int32)
    symbols[varied] = round_latents(base, int(bits), latents[varied], code, effort, errors)
    return np.split(base.quantizer(int(bits)).latents(symbols).astype(np.int32), firsts[1:-1]), []


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
