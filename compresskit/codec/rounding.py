"""Which bins latents are rounded to: not the nearest, but those that are worth their bits (Sullivan and Wiegand 1998, section IV).

Distance between latents is error (calibrate.py), so that what a bin costs, squared distance + price x bits, is known without the network.
Only encoding uses it: floats here change which bins are chosen, never what they decode to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.contexts import token_lengths
from compresskit.codec.neighbours import Places
from compresskit.codec.prior import INCREMENT, fit_weights, scan
from compresskit.codec.rangecoder import TABLE_BITS
from compresskit.codec.tokens import split

PRICE = 0.1
"""Squared bins that a bit may cost; where half the bin is worth one bit a latent, as for fine bins, it is ln(2) / 6."""

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


class Prices(Protocol):
    """What bins cost under tables that have seen certain values (P, L)."""

    @property
    def bits(self) -> Floats:
        """About the bits (P,) that each patch of those values takes."""
        ...

    def choose(self, targets: Floats) -> Integers:
        """Values (P, L) for latents `targets` (P, L), in bins."""
        ...


class Code(Protocol):
    """How the latents of a chunk are coded. Values are bins, counted from the middle one."""

    def seeing(self, values: Integers) -> Prices:
        """The prices after `values` (P, L)."""
        ...


def nearest(targets: Floats, limit: int) -> Integers:
    """The nearest values from -`limit` to `limit` - 1."""
    return np.clip(np.rint(targets), -limit, limit - 1).astype(np.int64)


@dataclass(frozen=True, eq=False)
class ContextCode:
    """Latents in contexts; the attributes are arguments of `prior.scan`."""

    places: Places
    typical: Integers
    limit: int

    def seeing(self, values: Integers) -> ContextPrices:
        """As in `Code`."""
        weights = fit_weights(self.places, values)
        contexts, errors = self._traced(values, weights)
        tokens, _, plain = split(np.roll(np.arange(-2 * self.limit, 2 * self.limit), 2 * self.limit))
        lengths = token_lengths(contexts.reshape(-1), split(errors.reshape(-1))[0], INCREMENT)[:, tokens] + plain
        return ContextPrices(self, weights, lengths, lengths[contexts, errors].sum(axis=1))

    def _traced(self, values: Integers, weights: Integers) -> tuple[NDArray[np.uint8], Integers]:
        """Contexts and errors (P, L) of `values`, under the `weights` of neighbours."""
        found, errors = np.empty(values.shape, np.uint8), np.empty_like(values)

        def visit(rows: Integers, band: slice, contexts: NDArray[np.uint8], guesses: Integers) -> Integers:
            found[rows, band], errors[rows, band] = contexts, values[rows, band] - guesses
            return values[rows, band]

        scan(self.places, self.typical, weights, self.limit, visit)
        return found, errors


@dataclass(frozen=True, eq=False)
class ContextPrices:
    """`Prices` in contexts.

    Attributes:
        weights: of neighbours.
        lengths: bits (contexts, errors) of every error, negative ones from the end.
        bits: as in `Prices`.
    """

    code: ContextCode
    weights: Integers
    lengths: Floats
    bits: Floats

    def choose(self, targets: Floats) -> Integers:
        """As in `Prices`, one by one in the order of coding: a choice changes what is expected of those that come after."""
        near = nearest(targets, self.code.limit)

        def visit(rows: Integers, band: slice, contexts: NDArray[np.uint8], guesses: Integers) -> Integers:
            found = near[rows, band]
            candidates = np.stack([found, found - np.sign(found - guesses), guesses])
            costs = np.square(targets[rows, band] - candidates) + PRICE * self.lengths[contexts, candidates - guesses]
            return np.take_along_axis(candidates, costs.argmin(axis=0)[None], axis=0)[0]

        return scan(self.code.places, self.code.typical, self.weights, self.code.limit, visit)


@dataclass(frozen=True, eq=False)
class TableCode:
    """Latents under static tables (L, K)."""

    tables: NDArray[np.uint32]

    @property
    def limit(self) -> int:
        """Half the number of bins."""
        return self.tables.shape[1] // 2

    def seeing(self, values: Integers) -> TablePrices:
        """As in `Code`: whatever has been seen, tables stay as they are."""
        return TablePrices(self, self.lengths(values).sum(axis=1))

    def lengths(self, values: Integers) -> Floats:
        """Bits of `values` (..., P, L), each."""
        return TABLE_BITS - np.log2(self.tables[np.arange(len(self.tables)), values + self.limit])


@dataclass(frozen=True, eq=False)
class TablePrices:
    """`Prices` under static tables."""

    code: TableCode
    bits: Floats

    def choose(self, targets: Floats) -> Integers:
        """As in `Prices`."""
        limit = self.code.limit
        found = nearest(targets, limit)
        candidates = np.clip(np.stack([found - 1, found, found + 1]), -limit, limit - 1)
        costs = np.square(targets - candidates) + PRICE * self.code.lengths(candidates)
        return np.take_along_axis(candidates, costs.argmin(axis=0)[None], axis=0)[0]
