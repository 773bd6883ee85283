"""Latents in the context of those that are known: coarser ones of the same patch, and the same ones of patches next to it.

A latent is coded as its difference from a guess, under the frequency table (contexts.py) of the magnitude that is expected of it:

    guess       what neighbours have, the first few latents only: brightness goes on from patch to patch, texture does not
    magnitude   what is typical of the latent, times how lively the coarser latents of its patch are; and what neighbours have

Band after band of latents, the coarsest first, and turn after turn of patches: each step is one call of the coder.
Everything is integer arithmetic, so that every machine finds the same contexts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.contexts import SCALE_BITS, Coder, Reader, Writer, contexts_of
from compresskit.codec.neighbours import Places, Turn
from compresskit.codec.rangecoder import TABLE_BITS
from compresskit.codec.varint import Cursor, CutOffError, pack_varint
from compresskit.errors import InputError

GUESSED = 8
"""Latents that are guessed from neighbours."""

INCREMENT = 64
"""As in contexts.py, twice as large: a chunk has few latents to learn from."""

WIDEST = 16  # band
_WINDOW = 16  # latents before a band that tell how lively a patch is
_DOUBT = 1 << SCALE_BITS - 1  # what is added to both sides of that ratio, so that a few small numbers prove little
_MOST = 3  # halves that such a weight has
_EXPECTED_WEIGHT = 1 << SCALE_BITS

Integers = NDArray[np.int64]
Visit = Callable[[Integers, slice, NDArray[np.uint8], Integers], Integers]
"""From rows, a band of latents, and their contexts and guesses (rows, band) to their values (rows, band)."""


def typical_magnitudes(tables: NDArray[np.uint32]) -> Integers:
    """The mean magnitudes (L,) of symbols less the middle one under `tables` (L, K), in units of 2**-SCALE_BITS."""
    size = tables.shape[1]
    return (tables.astype(np.int64) @ np.abs(np.arange(size) - size // 2)) >> TABLE_BITS - SCALE_BITS


def bands(latents: int) -> Iterator[slice]:
    """All latents in bands: one alone at first, a quarter as wide as all before them later on."""
    begin = 0
    while begin < latents:
        width = min(1 << max(begin.bit_length() - 3, 0), WIDEST)
        yield slice(begin, min(begin + width, latents))
        begin += width


def scan(places: Places, typical: Integers, weights: Integers, limit: int, visit: Visit) -> Integers:
    """Go through all latents in the order of coding.

    Args:
        places: of P patches.
        typical: (L,) magnitudes of the latents, in units of 2**-SCALE_BITS.
        weights: (guessed latents, axes) of neighbours along each axis, in halves.
        limit: guesses are from -`limit` to `limit` - 1, as all values are.
        visit: finds out the values of some, which contexts and guesses of those after them depend on.

    Returns:
        The values (P, L).
    """
    # Behind the last patch is one of zeros, to which neighbours that are not there refer.
    values = np.zeros((len(places) + 1, len(typical)), np.int64)
    turns = list(places.turns())
    for band in bands(len(typical)):
        lively = slice(max(band.start - _WINDOW, 0), band.start)
        found = (np.abs(values[:, lively]).sum(axis=1) << SCALE_BITS) + _DOUBT
        own = typical[band] * found[:, None] // (typical[lively].sum() + _DOUBT)
        for turn in turns:
            contexts, guesses = _expected(values[:, band], own[turn.rows], turn, weights[band], limit)
            values[turn.rows, band] = visit(turn.rows, band, contexts, guesses)
    return values[:-1]


def _expected(values: Integers, own: Integers, turn: Turn, weights: Integers, limit: int) -> tuple[NDArray[np.uint8], Integers]:
    """Contexts and guesses (R, band) of one turn, for the `values` (P + 1, band) so far and the magnitudes `own` (R, band) that patches suggest."""
    if not turn.known.any():
        return contexts_of(own), np.zeros_like(own)
    known, near = turn.known[:, None], values[turn.earlier]
    theirs = (np.abs(near).sum(axis=(1, 2)) << SCALE_BITS) // np.maximum(known, 1)
    contexts = contexts_of(np.where(known > 0, own * 3 + theirs >> 2, own))
    guesses = np.zeros_like(own)
    count = len(weights)
    # The mean of what neighbours have, each times its weight in halves, rounded half up.
    sums = np.einsum("ras,sa->rs", near.sum(axis=2)[:, :, :count], weights)
    guesses[:, :count] = np.clip((sums + known) // np.maximum(2 * known, 1), -limit, limit - 1)
    return contexts, guesses


def fit_weights(places: Places, values: Integers) -> Integers:
    """Weights (guessed latents, axes), in halves, with which neighbours' latents are nearest to `values` (P, L)."""
    guessed = min(GUESSED, values.shape[1])
    weights = np.zeros((guessed, places.axes), np.int64)
    extended = np.append(values, np.zeros((1, values.shape[1]), np.int64), axis=0)
    turns = [turn for turn in places.turns() if turn.known.any()]
    for latent in range(guessed if turns else 0):
        near = np.concatenate([extended[turn.earlier, latent].sum(axis=2) / np.maximum(turn.known, 1)[:, None] for turn in turns])
        wanted = np.concatenate([values[turn.rows, latent] for turn in turns])
        best = np.clip(np.rint(np.linalg.lstsq(near, wanted, rcond=None)[0] * 2), -_MOST, _MOST)
        if np.abs(wanted - np.rint(near @ best / 2)).sum() < np.abs(wanted).sum():
            weights[latent] = best
    return weights


def encode_latents(values: Integers, places: Places, typical: Integers, limit: int, *, progressive: bool = False) -> bytes:
    """Encode `values` (P, L), from -`limit` to `limit` - 1, of patches at `places`; if `progressive`, any beginning tells the first bands."""
    writer, weights = Writer(INCREMENT, together=progressive), fit_weights(places, values)
    _code_weights(writer, weights.size, weights)

    def visit(rows: Integers, band: slice, contexts: NDArray[np.uint8], guesses: Integers) -> Integers:
        found = values[rows, band]
        writer.code(contexts.reshape(-1), (found - guesses).reshape(-1))
        return found

    scan(places, typical, weights, limit, visit)
    alphabet, bits, coded = writer.finish()
    return bytes((alphabet,)) + (b"" if progressive else pack_varint(len(bits)) + bits) + coded


def decode_latents(data: bytes, places: Places, typical: Integers, limit: int, *, progressive: bool = False) -> Integers:
    """The values (P, L), from -`limit` to `limit` - 1, that `encode_latents` made `data` of.

    Raises:
        InputError: `data` is damaged in a way that shows.
    """
    reader, weights = _opened(data, places, min(GUESSED, len(typical)), progressive=progressive)
    return scan(places, typical, weights, limit, lambda _, __, contexts, guesses: _read(reader, contexts, guesses, limit))


def begun_latents(data: bytes, places: Places, typical: Integers, limit: int, *, progressive: bool = False) -> tuple[Integers, int]:
    """Likewise of `data` that were cut off: values (P, L), and how many latents of each patch they tell; the others are 0.

    Raises:
        InputError: `data` is damaged in a way that shows.
    """
    try:
        reader, weights = _opened(data, places, min(GUESSED, len(typical)), progressive=progressive, cut=True)
    except CutOffError:
        return np.zeros((len(places), len(typical)), np.int64), 0
    known = len(typical)

    def visit(_: Integers, band: slice, contexts: NDArray[np.uint8], guesses: Integers) -> Integers:
        nonlocal known
        if band.start < known:
            try:
                return _read(reader, contexts, guesses, limit)
            except CutOffError:
                known = band.start
        return np.zeros_like(guesses)

    values = scan(places, typical, weights, limit, visit)
    # Earlier turns of the band where the bytes end were read: they are left out, so that all patches are equally fine.
    values[:, known:] = 0
    return values, known


def _opened(data: bytes, places: Places, guessed: int, *, progressive: bool, cut: bool = False) -> tuple[Reader, Integers]:
    """What reads the values in `data`, and the weights (guessed latents, axes) that come before them."""
    cursor = Cursor(data)
    alphabet = cursor.byte()
    bits = None if progressive else cursor.take(cursor.varint())
    reader = Reader(alphabet, bits, cursor.take(cursor.remaining), INCREMENT, cut=cut)
    weights = _code_weights(reader, guessed * places.axes, None).reshape(guessed, places.axes)
    if bool((np.abs(weights) > _MOST).any()):
        raise InputError(f"damaged stream: a weight of over {_MOST} halves; get a fresh copy")
    return reader, weights


def _read(reader: Reader, contexts: NDArray[np.uint8], guesses: Integers, limit: int) -> Integers:
    """The values (rows, band) of one turn."""
    found = guesses + reader.code(contexts.reshape(-1)).reshape(guesses.shape)
    if bool((found < -limit).any()) or bool((found >= limit).any()):
        raise InputError(f"damaged stream: a latent more than {limit} bins from the middle one; get a fresh copy")
    return found


def _code_weights(coder: Coder, count: int, weights: Integers | None) -> Integers:
    contexts = contexts_of(np.full(count, _EXPECTED_WEIGHT, np.int64))
    return coder.code(contexts, weights.reshape(-1) if weights is not None else np.zeros(count, np.int64))
