"""What a base network expects of its latents: what neighbours and coarser latents of a patch tell of them.

    guess       a linear map of what patches next to it are
    magnitude   of what the guess misses: a weighted sum of those of the coarser latents of the patch and of what neighbours have

How they are applied: latentscan.py. Learned (learnprior.py), they belong to the base network's file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compresskit.codec.config import HALF_BITS
from compresskit.codec.quantize import LATENT_FRACTION

if TYPE_CHECKING:
    import torch

GUESS_FRACTION = 12
"""Bits after the binary point of maps from neighbours."""

WEIGHT_FRACTION = 12
"""Likewise of weights of magnitudes."""

LIMIT = 2**25
"""Magnitudes of guesses, and of latents less their centre, are below, in units of 2**-16."""

MAX_AXES = 3

FEATURES = 64
"""Latents of a neighbour that a guess looks at, at most."""

_WEIGHT_BITS = 15
_VECTORS = ("own", "share", "near")

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LatentPrior:
    """What a base network knows of its latents; L of them, on patches of D spatial axes.

    Attributes:
        maps: for the sets of spatial axes along which a patch has neighbours, as sums of 2**axis: (2 x axes of the set x looked at, guessed) maps
            from these (of each axis, in their order, the one before and the one after) to guesses, in units of 2**-GUESS_FRACTION.
        own: (L, L) weights of magnitudes of coarser latents (rows) of the same patch, in units of 2**-WEIGHT_FRACTION.
        share: (L,) of that sum, where neighbours are known; likewise.
        near: (L,) weight of the mean magnitude that neighbours have; likewise.
        rest: for each number of bits (2, L) what is added, without neighbours and with, in units of 2**-SCALE_BITS.
        flat: (channels + 1, L) latents of a patch of one colour, less their centres, in units of 2**-16: for a channel at 1, and for black.
    """

    maps: Mapping[int, Integers]
    own: Integers
    share: Integers
    near: Integers
    rest: Mapping[float, Integers]
    flat: Integers

    @property
    def latents(self) -> int:
        """Length of a latent vector."""
        return len(self.own)

    @cached_property
    def own_in_floats(self) -> torch.Tensor:
        """`own` in float64."""
        import torch

        return torch.from_numpy(self.own.astype(np.float64))

    def fits(self, axes: int, latents: int) -> bool:
        """Whether it is for so many latents, on patches of so many axes, and within the bounds where sums are exact."""
        shapes = [self.share.shape == (latents,), self.near.shape == (latents,), self.own.shape == (latents, latents)]
        shapes += [rest.shape == (2, latents) for rest in self.rest.values()]
        for axes_of, map_ in self.maps.items():
            looked_at, over = divmod(len(map_), 2 * axes_of.bit_count())
            shapes.append(0 < axes_of < 1 << axes and not over and 0 < looked_at <= min(FEATURES, latents) and map_.shape[1] <= latents)
        weights = [*self.maps.values(), self.own, self.share, self.near]
        small = all(bool((np.abs(values) < 1 << _WEIGHT_BITS).all()) for values in weights)
        return all(shapes) and small and bool((np.abs(self.flat) < LIMIT).all())

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """As `read_prior` reads them."""
        found: dict[str, NDArray[np.generic]] = {f"prior.map.{axes}": map_.astype(np.int16) for axes, map_ in self.maps.items()}
        found |= {f"prior.{name}": getattr(self, name).astype(np.int16) for name in _VECTORS}
        rest = np.stack([self.rest[bits] for bits in HALF_BITS])
        return found | {"prior.rest": rest.astype(np.int32), "prior.flat": self.flat.astype(np.int32)}

    def of_colours(self, colours: Integers, levels: Integers) -> Integers:
        """Deviations (P, L) of patches that have one of `colours` (P, channels), out of as many `levels` (P,)."""
        most = levels[:, None] - 1
        shares = (np.clip(colours, 0, most) << 16) // np.maximum(most, 1)
        return np.clip((shares @ self.flat[:-1] >> 16) + self.flat[-1], 1 - LIMIT, LIMIT - 1)


def read_prior(tensors: Mapping[str, NDArray[np.generic]]) -> LatentPrior:
    """The prior in a base network's file.

    Raises:
        KeyError, TypeError, ValueError: it is damaged.
    """

    def integers(name: str, dtype: type[np.signedinteger]) -> Integers:
        if tensors[name].dtype != dtype:
            raise TypeError(f"{name} is of {tensors[name].dtype}")
        return tensors[name].astype(np.int64)

    maps = {axes: integers(f"prior.map.{axes}", np.int16) for axes in range(1, 1 << MAX_AXES) if f"prior.map.{axes}" in tensors}
    if any(map_.ndim != 2 for map_ in maps.values()):
        raise ValueError("a map of an impossible shape")
    own, share, near = (integers(f"prior.{name}", np.int16) for name in _VECTORS)
    rest = dict(zip(HALF_BITS, integers("prior.rest", np.int32), strict=True))
    return LatentPrior(maps, own, share, near, rest, integers("prior.flat", np.int32))


def latents_of(fitted: NDArray[np.floating], centers: Integers) -> Integers:
    """Fitted latents (..., L) less their centres, in units of 2**-16."""
    return np.clip(np.rint(np.ldexp(fitted.astype(np.float64), LATENT_FRACTION)).astype(np.int64) - centers, 1 - LIMIT, LIMIT - 1)
