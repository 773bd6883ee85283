"""Latents and weights as integer symbols: clip to k standard deviations, split into equal bins (thesis, section 5.2.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compresskit.errors import InputError

LATENT_FRACTION = 16
"""Bits after the binary point of every latent that the decoder sees."""

MAX_BITS = 16


@dataclass(frozen=True)
class UniformQuantizer:
    """2**bits equal bins for each of L dimensions, in units of 2**-LATENT_FRACTION: symbol s is the bin [low + s step, low + (s + 1) step).

    Integers throughout, so that a symbol means the same latent on every machine.

    Attributes:
        low: (L,) int64, where the lowest bin starts.
        step: (L,) int64, positive, the width of a bin.
        bits: 1 to 16.
    """

    low: NDArray[np.int64]
    step: NDArray[np.int64]
    bits: int

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= MAX_BITS:
            raise InputError(f"a quantizer of {self.bits} bits: 1 to {MAX_BITS} are possible")
        if self.low.ndim != 1 or self.low.shape != self.step.shape or bool((self.step < 1).any()):
            raise InputError("a quantizer needs one lowest value and one positive step a dimension")

    def symbols(self, latents: NDArray[np.floating]) -> NDArray[np.int32]:
        """The bins (N, L) that `latents` (N, L) fall into; the outermost bins take what lies beyond them.

        Raises:
            InputError: a latent is NaN or infinite: its training diverged.
        """
        if not np.isfinite(latents).all():
            raise InputError("cannot quantize latents that are not finite: the fit diverged; lower the learning rate")
        bins = np.floor((np.ldexp(latents.astype(np.float64), LATENT_FRACTION) - self.low) / self.step)
        return np.clip(bins, 0, (1 << self.bits) - 1).astype(np.int32)

    def bins(self, latents: NDArray[np.integer]) -> NDArray[np.int32]:
        """The symbols (N, L) whose bins have the centres `latents` (N, L): the inverse of `latents`."""
        return ((latents.astype(np.int64) - self.low) // self.step).astype(np.int32)

    def latents(self, symbols: NDArray[np.integer]) -> NDArray[np.int64]:
        """The centres (N, L) of the bins `symbols` (N, L), in units of 2**-LATENT_FRACTION."""
        return self.low + symbols.astype(np.int64) * self.step + self.step // 2


def k_sigma(mean: NDArray[np.floating], sigma: NDArray[np.floating], bits: int, k: float = 3.0) -> UniformQuantizer:
    """The quantizer that covers `mean` (L,) +- `k` `sigma` (L,) with 2**bits bins (thesis, section 5.2.3; k of COIN: `coin_sigmas`).

    Raises:
        InputError: a mean or a sigma is not finite, or `bits` is out of range.
    """
    low = np.ldexp(np.asarray(mean, dtype=np.float64) - k * np.asarray(sigma, dtype=np.float64), LATENT_FRACTION)
    step = np.ldexp(2 * k * np.asarray(sigma, dtype=np.float64), LATENT_FRACTION - bits)
    if not (np.isfinite(low).all() and np.isfinite(step).all()):
        raise InputError("cannot quantize latents whose mean or deviation is not finite: the fit diverged; lower the learning rate")
    return UniformQuantizer(np.rint(low).astype(np.int64), np.maximum(np.rint(step), 1).astype(np.int64), bits)


def coin_sigmas(bits: int) -> float:
    """How many standard deviations COIN's weights keep: 3 at 1 bit to 6 at 16 bits (thesis, appendix C.2)."""
    return 3 + 3 * (bits - 1) / 15
