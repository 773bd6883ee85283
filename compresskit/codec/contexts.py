"""Adaptive coding of integers whose size can be guessed: every guess has a frequency table, which learns as symbols go by.

    writer: (contexts, values) --tokens.split--> tokens, plain bits --tables--> range coder, bits
    reader: the same tables, from what it has read; then tokens.join

Symbols are coded in portions; the tables change between portions only, so that a portion is a few calls of the range coder.
Everything is integer arithmetic: writer and reader hold the same tables on every machine.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.entropy import normalize
from compresskit.codec.rangecoder import TABLE_BITS, RangeReader, RangeWriter
from compresskit.codec.tokens import TOKENS, BitReader, BitWriter, join, plain_bits, spelled, split, token_edges
from compresskit.errors import InputError

SCALE_BITS = 8
"""Bits after the binary point of an expected magnitude."""

_LOWEST, _HIGHEST = -10, 30  # the contexts lie between the powers of 2**(1/2) from 2**-5 to 2**15
_EDGES = np.array([math.isqrt(1 << 2 * SCALE_BITS + half) for half in range(_LOWEST, _HIGHEST)])
PARAMETERS = len(_EDGES) + 1
"""The context of weights and other side information."""

_CONTEXTS = PARAMETERS + 1
INCREMENT = 32
"""By how much the count of a token grows when it is seen."""

_PRIOR = 100 * INCREMENT
_LIMIT = (1 << 11) * INCREMENT
_SHORTEST, _LONGEST = 256, 1024  # portions
_FRACTION = 30
_EVEN = np.full(2, 1 << TABLE_BITS - 1, np.uint32)  # the table of a plain bit


def contexts_of(scales: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The contexts (N,) of values whose expected magnitudes are `scales` (N,), in units of 2**-SCALE_BITS."""
    return np.searchsorted(_EDGES, scales, side="right").astype(np.uint8)


@lru_cache(maxsize=1)
def _prior() -> NDArray[np.int64]:
    """Counts (contexts, TOKENS) before anything is seen: zigzag codes fall off geometrically, their mean twice the magnitude expected."""
    mean = np.append(np.append(_EDGES, _EDGES[-1] * 2), 1 << SCALE_BITS + 10) * 2
    powers = (mean << _FRACTION) // (mean + (1 << SCALE_BITS))
    edges = token_edges()
    survival = np.full((_CONTEXTS, TOKENS + 1), 1 << _FRACTION, dtype=np.int64)
    for bit in range(int(edges[-1]).bit_length()):
        survival = np.where(edges >> bit & 1, survival * powers[:, None] >> _FRACTION, survival)
        powers = powers * powers >> _FRACTION
    return np.maximum(survival[:, :-1] - survival[:, 1:], 0) * _PRIOR >> _FRACTION


def token_lengths(contexts: NDArray[np.uint8], tokens: NDArray[np.integer], increment: int) -> NDArray[np.float64]:
    """About the bits (contexts, TOKENS) of every token, plain bits apart, once `tokens` (N,) have been coded in `contexts` (N,)."""
    counts = 1 + _prior() + increment * _pairs(contexts, tokens, TOKENS)
    return np.asarray(np.log2(counts.sum(axis=1, keepdims=True) / counts))


def _pairs(contexts: NDArray[np.integer], tokens: NDArray[np.integer], alphabet: int) -> NDArray[np.int64]:
    """How often each of `alphabet` tokens occurs in each context: (contexts, alphabet)."""
    return np.bincount(contexts * np.intp(alphabet) + tokens, minlength=_CONTEXTS * alphabet).reshape(_CONTEXTS, alphabet)


class _Tables:
    """The frequency tables of all contexts, and how they learn."""

    def __init__(self, alphabet: int, increment: int) -> None:
        self._increment = increment
        self._counts = _prior()[:, :alphabet].copy()
        self._seen = 0

    def portion(self) -> int:
        """How many symbols the next portion has at most: few at first, to learn fast."""
        return min(max(self._seen // 2, _SHORTEST), _LONGEST)

    def of(self, contexts: NDArray[np.integer]) -> NDArray[np.uint32]:
        """Frequency tables (N, alphabet) of `contexts` (N,)."""
        return normalize(self._counts[contexts])

    def learn(self, contexts: NDArray[np.integer], tokens: NDArray[np.integer]) -> None:
        """Count a portion; halve the tables that have seen much, so that the past fades."""
        self._counts += self._increment * _pairs(contexts, tokens, self._counts.shape[1])
        full = self._counts.sum(axis=1) > _LIMIT
        self._counts[full] >>= 1
        self._seen += len(tokens)


def _groups(contexts: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """An order that sorts `contexts`, the contexts that occur, and how often each does."""
    counts = np.bincount(contexts, minlength=_CONTEXTS)
    present = np.flatnonzero(counts)
    return np.argsort(contexts, kind="stable"), present, counts[present]


class Writer:
    """Collects integers with their contexts, and codes them all at the end, when the alphabet is known.

    Plain bits make a stream of their own, or follow the tokens of their call in the one stream (`together`): then any beginning of it tells the
    first integers.
    """

    encoding = True

    def __init__(self, increment: int = INCREMENT, *, together: bool = False) -> None:
        self._increment = increment
        self._together = together
        self._calls: list[tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]] = []
        self._bits = BitWriter()

    def code(self, contexts: NDArray[np.uint8], values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Append `values` (N,), of which `contexts` (N,) is known. Returns them: what `Reader.code` will."""
        tokens, plain, lengths = split(values)
        if self._together:
            self._calls.append((contexts, tokens, spelled(plain, lengths)))
        else:
            self._bits.write(plain, lengths)
            self._calls.append((contexts, tokens, np.empty(0, np.uint8)))
        return values

    def finish(self) -> tuple[int, bytes, bytes]:
        """The size of the alphabet, the plain bits and what is range-coded: the arguments of `Reader`."""
        alphabet = 1 + max((int(tokens.max(initial=0)) for _, tokens, _ in self._calls), default=0)
        tables, writer = _Tables(alphabet, self._increment), RangeWriter()
        for contexts, tokens, bits in self._calls:
            start = 0
            while start < len(tokens):
                portion = slice(start, start + tables.portion())
                order, present, counts = _groups(contexts[portion])
                groups = np.split(tokens[portion][order], np.cumsum(counts)[:-1])
                for group, table in zip(groups, tables.of(present), strict=True):
                    writer.encode(group, table)
                tables.learn(contexts[portion], tokens[portion])
                start = portion.stop
            writer.encode(bits, _EVEN)
        return alphabet, self._bits.finish(), writer.finish()


class Reader:
    """Reads what a `Writer` collected, call by call.

    Args:
        alphabet, coded: from the writer.
        bits: likewise; None where they follow the tokens of their call.
        increment: the writer's.
        cut: whether `coded` was cut off.

    Raises:
        InputError: no alphabet has this size.
    """

    encoding = False

    def __init__(self, alphabet: int, bits: bytes | None, coded: bytes, increment: int = INCREMENT, *, cut: bool = False) -> None:
        if not 1 <= alphabet <= TOKENS:
            raise InputError(f"damaged stream: an alphabet of {alphabet} tokens where 1 to {TOKENS} are possible; get a fresh copy")
        self._tables = _Tables(alphabet, increment)
        self._bits = BitReader(bits) if bits is not None else None
        self._reader = RangeReader(coded, cut=cut)

    def code(self, contexts: NDArray[np.uint8], values: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """The next integers (N,), of which `contexts` (N,) is known; `values` is `Writer.code`'s.

        Raises:
            CutOffError: they depend on bytes that were cut off.
            InputError: the stream is damaged in a way that shows.
        """
        tokens = np.empty(len(contexts), dtype=np.uint8)
        start = 0
        while start < len(tokens):
            portion = slice(start, min(start + self._tables.portion(), len(tokens)))
            order, present, counts = _groups(contexts[portion])
            groups = [self._reader.decode(int(count), table) for count, table in zip(counts, self._tables.of(present), strict=True)]
            tokens[portion][order] = np.concatenate(groups)
            self._tables.learn(contexts[portion], tokens[portion])
            start = portion.stop
        lengths = plain_bits(tokens)
        bits = self._bits or BitReader(np.packbits(self._reader.decode(int(lengths.sum()), _EVEN)).tobytes())
        return join(tokens, bits.read(lengths))


Coder = Writer | Reader


def parameters(coder: Coder, count: int, values: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """`count` integers of side information through `coder`; `values` (count,) when it is a writer."""
    contexts = np.full(count, PARAMETERS, dtype=np.uint8)
    return coder.code(contexts, values if values is not None else np.zeros(count, dtype=np.int64))
