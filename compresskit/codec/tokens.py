"""Integers as a token of a small alphabet, which is range-coded, and plain bits, which are not worth it.

An integer's zigzag code u (0, -1, 1, -2, ... are 0, 1, 2, 3, ...) is a token itself below 16. From there on a token is the length of u in
bits and the two bits after the leading one; the others follow as plain bits:

    u         token              plain bits
    0 .. 15   u                  none
    1xxyy     16 + xx            2: yy
    1xxyyy    20 + xx            3: yyy
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compresskit.errors import InputError

MAX_BITS = 43
"""Longest zigzag code: differences of integers within +-2**40 fit."""

_DIRECT = 16  # codes that are tokens, and the first token that is not
_DIRECT_BITS = 4
_KEPT_BITS = 3  # of a longer code in its token, the leading one with them

TOKENS = _DIRECT + (MAX_BITS - _DIRECT_BITS) * (1 << _KEPT_BITS - 1)


def split(values: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """The tokens of `values` (N,), the plain bits (N,) that complete them, and the numbers (N,) of those bits."""
    codes = values << 1 ^ values >> 63
    lengths = np.frexp(codes.astype(np.float64))[1].astype(np.int64)
    plain = np.where(codes < _DIRECT, 0, lengths - _KEPT_BITS)
    leading = (codes >> plain) - (1 << _KEPT_BITS - 1)
    longer = _DIRECT + (lengths - _DIRECT_BITS - 1 << _KEPT_BITS - 1) + leading
    return np.where(codes < _DIRECT, codes, longer).astype(np.uint8), codes & (1 << plain) - 1, plain


def plain_bits(tokens: NDArray[np.integer]) -> NDArray[np.int64]:
    """How many plain bits complete each of `tokens` (N,)."""
    return np.where(tokens < _DIRECT, 0, (tokens.astype(np.int64) - _DIRECT >> _KEPT_BITS - 1) + _DIRECT_BITS + 1 - _KEPT_BITS)


def join(tokens: NDArray[np.integer], plain: NDArray[np.int64]) -> NDArray[np.int64]:
    """The integers (N,) of `tokens` (N,) and the bits (N,) that complete them."""
    codes = _lowest_code(tokens.astype(np.int64)) + plain
    return codes >> 1 ^ -(codes & 1)


def token_edges() -> NDArray[np.int64]:
    """The lowest zigzag code of every token, and the end of the last one: (TOKENS + 1,)."""
    return _lowest_code(np.arange(TOKENS + 1))


def _lowest_code(tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    leading = (tokens - _DIRECT & (1 << _KEPT_BITS - 1) - 1) + (1 << _KEPT_BITS - 1)
    return np.where(tokens < _DIRECT, tokens, leading << plain_bits(tokens))


def spelled(values: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The bits of all `values` (N,), each in its number of `lengths` (N,), the most significant first."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    shifts = np.repeat(ends, lengths) - 1 - np.arange(total)
    return (np.repeat(values, lengths) >> shifts & 1).astype(np.uint8)


class BitWriter:
    """Bits in sequence, the most significant of every number first."""

    def __init__(self) -> None:
        self._packed: list[bytes] = []
        self._rest = np.zeros(0, dtype=np.uint8)

    def write(self, values: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """Append `values` (N,), each in its number of bits of `lengths` (N,)."""
        bits = np.concatenate([self._rest, spelled(values, lengths)])
        whole = len(bits) - len(bits) % 8
        self._packed.append(np.packbits(bits[:whole]).tobytes())
        self._rest = bits[whole:]

    def finish(self) -> bytes:
        """All bits, the last byte filled up with zeros."""
        return b"".join([*self._packed, np.packbits(self._rest).tobytes()])


class BitReader:
    """Reads what a `BitWriter` wrote."""

    def __init__(self, data: bytes) -> None:
        # A number and the bits before it in its first byte span six bytes at most.
        self._bytes = np.frombuffer(data + bytes(8), dtype=np.uint8)
        self._end = 8 * len(data)
        self._offset = 0

    def read(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """The next numbers (N,), of `lengths` (N,) bits, each 0 to 40.

        Raises:
            InputError: fewer bits are left.
        """
        ends = self._offset + np.cumsum(lengths)
        end = int(ends[-1]) if len(ends) else self._offset
        if end > self._end:
            raise InputError("damaged stream: its plain bits end too early; get a fresh copy")
        self._offset = end
        starts = ends - lengths
        longest = int(lengths.max(initial=0))
        span = (longest + 7 + 7) // 8 if longest else 0
        window = np.zeros(len(lengths), dtype=np.int64)
        for index in range(span):
            window = window << 8 | self._bytes[(starts >> 3) + index]
        return window >> 8 * span - (starts & 7) - lengths & (1 << lengths) - 1 if span else window
