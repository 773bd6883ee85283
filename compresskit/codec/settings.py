"""From a quality, 1 to 9, to patches and bits, or to a rate: what `encode` uses unless it is told otherwise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from compresskit.codec.base import Base
from compresskit.codec.config import LATENT_BITS, EncodeConfig

STEPS = 5
COIN_STEPS = 2000
COIN_BITS = 16


@dataclass(frozen=True)
class Setting:
    """One point of a rate-distortion curve of COIN++.

    Attributes:
        patch: nominal edges, one for all axes; () for whole frames.
        bits: of the widest latent.
    """

    patch: tuple[int, ...]
    bits: int


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


def _ladder(*steps: tuple[int, int]) -> tuple[Setting, ...]:
    return tuple(Setting((edge,) if edge else (), bits) for edge, bits in steps)


# By spatial axes; edge and bits from the smallest stream to the nearest signal.
GRID: Mapping[int, tuple[Setting, ...]] = {
    1: _ladder((768, 3), (512, 3), (512, 4), (384, 5), (256, 5), (192, 5), (128, 6), (96, 6), (64, 8)),
    2: _ladder((64, 6), (48, 6), (32, 6), (32, 7), (24, 7), (16, 7), (12, 7), (8, 7), (8, 8)),
    3: _ladder((24, 6), (16, 6), (12, 6), (12, 7), (8, 7), (8, 8), (6, 8), (4, 7), (4, 8)),
}
SPHERE = _ladder((0, 3), (0, 4), (0, 4), (0, 5), (0, 5), (0, 6), (0, 7), (0, 8), (0, 8))
COIN_BPP = (0.07, 0.15, 0.3, 0.45, 0.6, 0.9, 1.2, 2.4, 4.8)  # the thesis's rates on Kodak (figure 5.5), and beyond


def ladder(base: Base, config: EncodeConfig, longest: int) -> tuple[Setting, ...]:
    """The settings for all qualities of signals that have at most `longest` samples along an axis, with what `config` fixes."""
    steps = SPHERE if base.geometry == "sphere" else GRID[base.axes]
    if config.patch is not None:
        steps = tuple(replace(setting, patch=(config.patch,)) for setting in steps)
    if config.bits is not None:
        return tuple(replace(setting, bits=config.bits) for setting in steps)
    return tuple(_suited(setting, longest) for setting in steps)


def _suited(setting: Setting, longest: int) -> Setting:
    """`setting` with fewer bits in place of patches larger than the whole signal: half as many samples along an axis are worth two bits."""
    excess = max(setting.patch[0] / longest, 1.0) if setting.patch else 1.0
    return replace(setting, bits=max(setting.bits - round(2 * math.log2(excess)), LATENT_BITS[0]))
