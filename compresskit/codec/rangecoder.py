"""The range coder: symbols under integer frequency tables to bytes, the same bytes on every machine.

A table is K frequencies, each at least 1, that sum to 2**TABLE_BITS. The coder is constriction's, whose options are fixed here for good:
32-bit words, 64-bit state, 24-bit probabilities, `perfect=False`. It turns the table into the cumulative frequencies
floor(c_k (2**24 - K) / 2**16) + k, where c_k = f_0 + ... + f_(k-1). Frequencies over 65536 and their products here are exact in float64:
no rounding ever decides a symbol (a test computes the same bytes in integers).

The words are written big-endian, so that the stream is one long binary fraction. `finish` picks the shortest of those that decode alike;
the decoder reads zeros past its end.
"""

from __future__ import annotations

import constriction
import numpy as np
from numpy.typing import NDArray

from compresskit.codec.varint import CutOffError
from compresskit.errors import InputError

TABLE_BITS = 16

_WORD_BYTES = 4
_STATE_BYTES = 8


def _model(table: NDArray[np.integer]) -> constriction.stream.model.Categorical:
    return constriction.stream.model.Categorical(probabilities=table.astype(np.float64) / (1 << TABLE_BITS), perfect=False, lazy=False)


class RangeWriter:
    """Appends symbols to a stream that a `RangeReader` reads in the same order, under the same tables."""

    def __init__(self) -> None:
        self._encoder = constriction.stream.queue.RangeEncoder()

    def encode(self, symbols: NDArray[np.integer], table: NDArray[np.integer]) -> None:
        """Append `symbols` (N,), all of them in [0, K), under `table` (K,). A table of one symbol costs nothing."""
        if len(table) > 1 and len(symbols):
            self._encoder.encode(np.ascontiguousarray(symbols, dtype=np.int32), _model(table))

    def finish(self) -> bytes:
        """The shortest bytes that decode to what was appended."""
        words = self._encoder.get_compressed()
        if not len(words):
            return b""
        # Every number in [low, low + size) decodes alike. The coder ends the stream with the first multiple of 2**32 in it,
        # and with a word of zeros more where it fears what comes after: nothing but zeros, here.
        low, size = self._encoder.pos()[1]
        end = low + (1 << 32) - 1 >> 32
        if end % (1 << 32) == (low + size >> 32) % (1 << 32):
            words = words[:-1]
        written = int.from_bytes(words.astype(">u4").tobytes(), "big") << 32
        start = written - (-low) % (1 << 32)
        for dropped in range(8 * _STATE_BYTES, -8, -8):
            shortest = -(-start >> dropped) << dropped
            if shortest < start + size:
                return shortest.to_bytes(_WORD_BYTES * (len(words) + 1), "big").rstrip(b"\0")
        raise AssertionError("an interval of the range coder is never empty")


class RangeReader:
    """Reads what a `RangeWriter` wrote. Other bytes give some symbols, or InputError; never symbols that are not in the table.

    Of a stream that was cut off (`cut`), only symbols are decoded that any bytes in place of the missing ones would leave as they are.
    """

    def __init__(self, data: bytes, *, cut: bool = False) -> None:
        padded = data + bytes(-len(data) % _WORD_BYTES)
        self._decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(padded, dtype=">u4").astype(np.uint32))
        # A decoder has read as many words as an encoder of the same symbols has written, and its state of two words.
        self._writer = constriction.stream.queue.RangeEncoder() if cut else None
        self._words = (len(data) - _STATE_BYTES) // _WORD_BYTES

    def decode(self, count: int, table: NDArray[np.integer]) -> NDArray[np.int32]:
        """The next `count` symbols, in [0, K), under `table` (K,).

        Raises:
            CutOffError: they depend on bytes that were cut off.
            InputError: no symbols have this code.
        """
        if len(table) == 1 or not count:
            return np.zeros(count, dtype=np.int32)
        model = _model(table)
        try:
            symbols = self._decoder.decode(model, count)
        except AssertionError:  # what constriction raises for a code that it never writes
            error = InputError if self._writer is None else CutOffError
            raise error("damaged stream: its range-coded symbols cannot be decoded; get a fresh copy") from None
        if self._writer is not None:
            self._writer.encode(symbols, model)
            if self._writer.pos()[0] > self._words:
                raise CutOffError("damaged stream: its range-coded symbols end too early; get a fresh copy")
        return symbols
