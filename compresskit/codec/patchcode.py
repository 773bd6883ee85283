"""Patches as latents of a base network: fitted, quantized; and reconstructed from them, in integers. How they are packed: chunks.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from compresskit.codec.base import Base
from compresskit.codec.exact import ACTIVATION_BITS
from compresskit.codec.fit import fit
from compresskit.codec.levels import Levels, rendered
from compresskit.codec.modulation import Modulated, errors
from compresskit.codec.quantize import LATENT_FRACTION
from compresskit.codec.siren import from_integer
from compresskit.codec.start import amortised

CHUNK = 256
"""Patches of a chunk: what is decoded at least."""

FIT_POINTS = 1024  # of a patch; more of them would hardly change a latent
_FIT_BYTES = 2**27
_SAMPLES = 2**22  # that are reconstructed at a time

Integers = NDArray[np.int64]


class Grid(Protocol):
    """Where the samples of a patch lie."""

    @property
    def edges(self) -> tuple[int, ...]:
        """Of a patch."""
        ...

    @property
    def axes(self) -> tuple[NDArray[np.float64], ...]:
        """Latitudes and longitudes of whole globes, else ()."""
        ...

    def coordinates(self) -> Integers:
        """(N, dims) coordinates of its points."""
        ...


@dataclass(frozen=True, eq=False)
class PatchCodes:
    """Patches, quantized.

    Attributes:
        constant: (P,) whether a patch is one colour.
        colours: (constant patches, channels) their levels.
        symbols: (other patches, latents).
    """

    constant: NDArray[np.bool_]
    colours: Integers
    symbols: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.constant)

    def part(self, begin: int, end: int) -> PatchCodes:
        """The patches from `begin` to `end`."""
        first, last = (int(np.count_nonzero(self.constant[:index])) for index in (begin, end))
        return PatchCodes(self.constant[begin:end], self.colours[first:last], self.symbols[begin - first : end - last])

    def only(self, wanted: NDArray[np.bool_]) -> PatchCodes:
        """The same number of patches, of which those not `wanted` (P,) are blank."""
        constant = self.constant | ~wanted
        colours = np.zeros((np.count_nonzero(constant), self.colours.shape[1]), np.int64)
        colours[(self.constant & wanted)[constant]] = self.colours[wanted[self.constant]]
        return PatchCodes(constant, colours, self.symbols[wanted[~self.constant]])


def blank(count: int, channels: int, latents: int) -> PatchCodes:
    """Patches of level 0."""
    return PatchCodes(np.ones(count, np.bool_), np.zeros((count, channels), np.int64), np.empty((0, latents), np.int32))


def join(parts: Sequence[PatchCodes]) -> PatchCodes:
    """All patches of `parts`, in their order."""
    return PatchCodes(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("constant", "colours", "symbols")))


def split(codes: PatchCodes, size: int = CHUNK) -> Iterator[PatchCodes]:
    """`codes` in runs of `size` patches."""
    return (codes.part(begin, min(begin + size, len(codes))) for begin in range(0, len(codes), size))


def modulated(base: Base) -> tuple[Modulated, torch.Tensor]:
    """The base network in floats, and the spread of its latents, for fitting."""
    mapping = np.ldexp(base.mapping.astype(np.float64), -base.fraction) * (2 * np.pi / base.omega)
    spread = np.ldexp(base.spread.astype(np.float64), -LATENT_FRACTION)
    return Modulated(from_integer(base.network, base.omega), torch.from_numpy(mapping).float()), torch.from_numpy(spread).float()


def fit_points(count: int) -> NDArray[np.intp] | slice:
    """Which of `count` points a fit looks at."""
    return slice(None) if count <= FIT_POINTS else np.sort(np.random.default_rng(count).permutation(count)[:FIT_POINTS])


def fit_patches(base: Base, lay: Grid, patches: Integers, levels: int, steps: int) -> NDArray[np.float32]:
    """Latents (P, L) of `patches` (P, N, channels) of `levels` levels, that lie on `lay`."""
    network, spread = modulated(base)
    x, chosen = _fitted_points(lay)
    found = [np.empty((0, network.latents), np.float32)]
    for part in _fitted_parts(network, len(patches), len(x)):
        targets = _targets(patches[part], levels)
        start = amortised(base, targets, lay.edges, lay.axes)
        found.append(fit(network, spread, x, targets[:, chosen], start, steps)[0].numpy())
    return np.concatenate(found)


def patch_errors(
    base: Base, lay: Grid, patches: Integers, levels: int, latents: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean squared errors (P,) of `latents` (P, L), where a fit looks at them, and half their gradients (P, L); the others are `fit_patches`'s."""
    network, _ = modulated(base)
    x, chosen = _fitted_points(lay)
    losses, gradients = np.empty(len(patches), np.float32), np.empty(latents.shape, np.float32)
    for part in _fitted_parts(network, len(patches), len(x)):
        found = errors(network, x, _targets(patches[part], levels)[:, chosen], torch.from_numpy(latents[part]))
        losses[part], gradients[part] = (tensor.numpy() for tensor in found)
    return losses, gradients


def _fitted_points(lay: Grid) -> tuple[torch.Tensor, NDArray[np.intp] | slice]:
    """Coordinates (N, dims) that a fit looks at, and which of all they are."""
    coordinates = lay.coordinates()
    chosen = fit_points(len(coordinates))
    return torch.from_numpy(coordinates[chosen]).float() / 2**ACTIVATION_BITS, chosen


def _fitted_parts(network: Modulated, patches: int, points: int) -> Iterator[slice]:
    """As many of all patches at a time as memory takes."""
    siren = network.siren
    batch = max(1, _FIT_BYTES // (4 * points * siren.weights[0].shape[0] * (len(siren.weights) + 4)))
    return (slice(begin, begin + batch) for begin in range(0, patches, batch))


def _targets(patches: Integers, levels: int) -> torch.Tensor:
    return torch.from_numpy(patches).float() / max(levels - 1, 1)


def quantize_patches(base: Base, bits: int, symbols: NDArray[np.int32], patches: Integers, coordinates: Integers, levels: int) -> PatchCodes:
    """Codes of `patches` (P, N, channels) with the `symbols` (P, L): one colour wherever that is as near as what the network makes."""
    colours = (2 * patches.sum(axis=1) + patches.shape[1]) // (2 * patches.shape[1])
    constant = np.empty(len(patches), np.bool_)
    at_once = at_a_time(base, len(coordinates))
    for begin in range(0, len(patches), at_once):
        part = slice(begin, begin + at_once)
        made = _evaluated(base, bits, symbols[part], coordinates, levels)
        constant[part] = _squares(patches[part] - colours[part, None]) <= _squares(patches[part] - made)
    return PatchCodes(constant, colours[constant], symbols[~constant])


def at_a_time(base: Base, points: int) -> int:
    """How many patches of so many points are reconstructed at a time."""
    return min(CHUNK, max(1, _SAMPLES // (points * base.channels)))


def reconstruct(base: Base, bits: int, codes: PatchCodes, coordinates: Integers, levels: int) -> Levels:
    """Patches (P, N, channels) of levels, exactly what every decoder makes of `codes`."""
    if codes.constant.all():
        colours = np.clip(codes.colours, 0, levels - 1).astype(np.uint16)
        return np.broadcast_to(colours[:, None], (len(codes), len(coordinates), base.channels))
    result = np.empty((len(codes), len(coordinates), base.channels), np.uint16)
    result[codes.constant] = np.clip(codes.colours, 0, levels - 1)[:, None]
    result[~codes.constant] = _evaluated(base, bits, codes.symbols, coordinates, levels)
    return result


def _evaluated(base: Base, bits: int, symbols: NDArray[np.int32], coordinates: Integers, levels: int) -> Levels:
    return rendered(base.network, coordinates, base.shifts(base.quantizer(bits).latents(symbols)), levels)


def _squares(difference: Integers) -> Integers:
    return np.square(difference).sum(axis=(1, 2))
