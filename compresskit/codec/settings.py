"""From a quality, 1 to 9, to patches and bits, or to a rate: what `encode` uses unless it is told otherwise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from compresskit.codec.base import Base
from compresskit.codec.config import LATENT_BITS, EncodeConfig
from compresskit.errors import UsageError

STEPS = 5
COIN_STEPS = 2000
COIN_BITS = 16


@dataclass(frozen=True)
class Setting:
    """One point of a rate-distortion curve of COIN++.

    Attributes:
        patch: nominal edges, one for all axes; () for whole frames.
        bits: that the widest latent would have without entropy coding.
    """

    patch: tuple[int, ...]
    bits: float


@dataclass(frozen=True)
class Effort:
    """What rounding of COIN++'s latents takes.

    Attributes:
        passes: over all latents, for the bins that are worth their bits; 0: the nearest.
        refinements: evaluations of network and gradient around what was chosen, after the first.
    """

    passes: int
    refinements: int


EFFORT_STEPS = tuple(Effort(*pair) for pair in ((0, 0), (1, 0), (2, 0), (2, 0), (2, 1), (2, 2), (2, 4), (2, 8), (2, 16)))
"""Of `--effort` 1 to 9."""


def _ladder(*steps: tuple[int, float]) -> tuple[Setting, ...]:
    return tuple(Setting((edge,) if edge else (), bits) for edge, bits in steps)


# By spatial axes; edge and bits from the smallest stream to the nearest signal.
GRID: Mapping[int, tuple[Setting, ...]] = {
    1: _ladder((512, 3), (512, 4), (512, 4.5), (384, 5), (256, 5.5), (256, 6), (256, 7), (256, 8), (256, 9)),
    2: _ladder((48, 6), (32, 6), (24, 6), (16, 6), (16, 6.5), (16, 7), (16, 8), (16, 9), (16, 10)),
    3: _ladder((16, 5.5), (12, 5.5), (8, 5.5), (8, 6), (8, 7), (8, 8), (8, 9), (8, 10), (8, 11)),
}
SPHERE = _ladder(*((0, bits) for bits in range(4, 13)))
COIN_BPP = (0.07, 0.15, 0.3, 0.45, 0.6, 0.9, 1.2, 2.4, 4.8)  # the thesis's rates on Kodak (figure 5.5), and beyond


def ladder(base: Base, config: EncodeConfig, longest: int) -> tuple[Setting, ...]:
    """The settings for all qualities of signals that have at most `longest` samples along an axis, with what `config` fixes.

    Raises:
        UsageError: the base network has no latents of so many bits.
    """
    steps = SPHERE if base.geometry == "sphere" else GRID[base.axes]
    if config.patch is not None:
        steps = tuple(replace(setting, patch=(config.patch,)) for setting in steps)
    most = max(base.steps)
    if config.bits is not None:
        if config.bits > most:
            raise UsageError(f"--bits {config.bits} is out of range for the base network {base.name}: give {LATENT_BITS[0]} to {most}")
        return tuple(replace(setting, bits=config.bits) for setting in steps)
    if base.prior is None:
        steps = tuple(replace(setting, bits=min(int(setting.bits), most)) for setting in steps)
    return tuple(_suited(setting, longest) for setting in steps)


def between(base: Base, low: Setting, high: Setting) -> Setting:
    """A setting between those of two qualities, for targets that lie there; `low` where there is none."""
    if base.prior is None or low.patch != high.patch or high.bits - low.bits < 1:
        return low
    return replace(low, bits=(low.bits + high.bits) / 2)


def _suited(setting: Setting, longest: int) -> Setting:
    """`setting` with fewer bits in place of patches larger than the whole signal: half as many samples along an axis are worth two bits."""
    excess = max(setting.patch[0] / longest, 1.0) if setting.patch else 1.0
    return replace(setting, bits=max(setting.bits - round(2 * math.log2(excess)), LATENT_BITS[0]))
