"""Predicted latents as bytes, and back: the weights of frames and planes, where there are any, then the values in the order of `latentscan.scan`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.contexts import SCALE_BITS, Coder, Reader, Writer, contexts_of
from compresskit.codec.latentprior import LIMIT, Integers, LatentPrior
from compresskit.codec.latentscan import LAYERED, SHARES, Known, Visit, scan
from compresskit.codec.prior import INCREMENT
from compresskit.codec.varint import Cursor, CutOffError, pack_varint
from compresskit.errors import InputError

_EXPECTED_WEIGHT = 2 << SCALE_BITS


@dataclass(frozen=True, eq=False)
class LatentCode:
    """How the latents of one stream are coded.

    Attributes:
        prior: the base network's.
        bits: of the stream.
        step: between two values, in units of 2**-16.
        progressive: whether any beginning of the bytes tells all patches coarsely.
    """

    prior: LatentPrior
    bits: float
    step: int
    progressive: bool = False

    def encode(self, known: Known, deviations: Integers, weights: Integers) -> bytes:
        """Bytes of latents less their centres, `deviations` (P, L), that lie on the grid of values around what is guessed with those `weights`."""
        writer = Writer(INCREMENT, together=self.progressive)
        if known.layered:
            _code_weights(writer, weights)

        def visit(rows: Integers, band: slice, contexts: NDArray[np.uint8], guesses: Integers) -> Integers:
            values = (deviations[rows, band] - guesses) // self.step
            writer.code(contexts.reshape(-1), values.reshape(-1))
            return values

        self.scan(known, weights, visit)
        alphabet, bits, coded = writer.finish()
        return bytes((alphabet,)) + (b"" if self.progressive else pack_varint(len(bits)) + bits) + coded

    def decode(self, data: bytes, known: Known) -> Integers:
        """The latents less their centres (P, L) that `encode` made `data` of; those of patches of one colour are as `known`.

        Raises:
            InputError: `data` is damaged in a way that shows.
        """
        reader, weights = self._opened(data, known, cut=False)
        return self.scan(known, weights, lambda _, __, *expected: self._read(reader, *expected))[1]

    def begun(self, data: bytes, known: Known) -> tuple[Integers, int]:
        """Likewise of `data` that were cut off: what was cut off is as it is guessed; and how many latents are told.

        Raises:
            InputError: `data` is damaged in a way that shows.
        """
        told, over = 0, False
        try:
            reader, weights = self._opened(data, known, cut=True)
        except CutOffError:
            over, weights = True, np.zeros(LAYERED, np.int64)

        def visit(_: Integers, __: slice, contexts: NDArray[np.uint8], guesses: Integers) -> Integers:
            nonlocal told, over
            if not over:
                try:
                    values = self._read(reader, contexts, guesses)
                except CutOffError:
                    over = True
                else:
                    told += values.size
                    return values
            return np.zeros_like(guesses)

        return self.scan(known, weights, visit)[1], told

    def scan(self, known: Known, weights: Integers, visit: Visit) -> tuple[Integers, Integers]:
        """As `latentscan.scan`."""
        return scan(self.prior, known, self.bits, self.step, weights, visit, progressive=self.progressive)

    def _opened(self, data: bytes, known: Known, *, cut: bool) -> tuple[Reader, Integers]:
        """What reads the values in `data`, and the weights of frames and planes."""
        cursor = Cursor(data)
        alphabet = cursor.byte()
        bits = None if self.progressive else cursor.take(cursor.varint())
        reader, weights = Reader(alphabet, bits, cursor.take(cursor.remaining), INCREMENT, cut=cut), np.zeros(LAYERED, np.int64)
        if known.layered:
            weights = _code_weights(reader, weights)
            if not 0 <= weights.min() <= weights.max() <= 1 << SHARES:
                raise InputError("damaged stream: a weight of neighbours that is not from 0 to 1; get a fresh copy")
        return reader, weights

    def _read(self, reader: Reader, contexts: NDArray[np.uint8], guesses: Integers) -> Integers:
        """The values (rows, band) of one call."""
        values = reader.code(contexts.reshape(-1)).reshape(guesses.shape)
        if bool((np.abs(values) >= LIMIT).any()) or bool((np.abs(guesses + values * self.step) >= LIMIT).any()):
            raise InputError("damaged stream: a latent that is far out of range; get a fresh copy")
        return values


def _code_weights(coder: Coder, weights: Integers) -> Integers:
    return coder.code(contexts_of(np.full(LAYERED, _EXPECTED_WEIGHT, np.int64)), weights)
