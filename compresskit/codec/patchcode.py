"""Patches as latents of a base network: fitted, quantized; and reconstructed from them, in integers. How they are packed: chunks.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from compresskit.codec.base import Base
from compresskit.codec.exact import ACTIVATION_BITS, OUTPUT, evaluate, evaluate_outputs
from compresskit.codec.fit import fit, solve
from compresskit.codec.levels import Levels, rendered
from compresskit.codec.modulation import Modulated, errors
from compresskit.codec.quantize import LATENT_FRACTION
from compresskit.codec.siren import from_integer
from compresskit.codec.start import amortised

CHUNK = 256
"""Patches that are worked on together."""

SYMBOL_CHUNK, LATENT_CHUNK = 256, 1024
"""Patches of a chunk, which is what is decoded at least: of symbols, and of latents that are predicted from those next to them."""

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


def chunk_size(base: Base) -> int:
    """Patches of a chunk in streams that are not progressive; the last one may have fewer."""
    return SYMBOL_CHUNK if base.prior is None else LATENT_CHUNK


@dataclass(frozen=True, eq=False)
class PatchCodes:
    """Patches, quantized.

    Attributes:
        constant: (P,) whether a patch is one colour.
        colours: (constant patches, channels) their levels.
        latents: (other patches, L), in units of 2**-LATENT_FRACTION.
    """

    constant: NDArray[np.bool_]
    colours: Integers
    latents: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.constant)

    def part(self, begin: int, end: int) -> PatchCodes:
        """The patches from `begin` to `end`."""
        first, last = (int(np.count_nonzero(self.constant[:index])) for index in (begin, end))
        return PatchCodes(self.constant[begin:end], self.colours[first:last], self.latents[begin - first : end - last])

    def only(self, wanted: NDArray[np.bool_]) -> PatchCodes:
        """The same number of patches, of which those not `wanted` (P,) are blank."""
        constant = self.constant | ~wanted
        colours = np.zeros((np.count_nonzero(constant), self.colours.shape[1]), np.int64)
        colours[(self.constant & wanted)[constant]] = self.colours[wanted[self.constant]]
        return PatchCodes(constant, colours, self.latents[wanted[~self.constant]])


def blank(count: int, channels: int, latents: int) -> PatchCodes:
    """Patches of level 0."""
    return PatchCodes(np.ones(count, np.bool_), np.zeros((count, channels), np.int64), np.empty((0, latents), np.int32))


def join(parts: Sequence[PatchCodes]) -> PatchCodes:
    """All patches of `parts`, in their order."""
    return PatchCodes(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("constant", "colours", "latents")))


def split(codes: PatchCodes, size: int) -> Iterator[PatchCodes]:
    """`codes` in runs of `size` patches."""
    return (codes.part(begin, min(begin + size, len(codes))) for begin in range(0, len(codes), size))


def modulated(base: Base) -> tuple[Modulated, torch.Tensor]:
    """The base network in floats, and the spread of its latents, for fitting."""
    mapping = np.ldexp(base.mapping.astype(np.float64), -base.fraction) * (1 if base.part == OUTPUT else 2 * np.pi / base.omega)
    spread = np.ldexp(base.spread.astype(np.float64), -LATENT_FRACTION)
    network = Modulated(from_integer(base.network, base.omega), torch.from_numpy(mapping).float(), base.part)
    return network, torch.from_numpy(spread).float()


def fit_points(count: int) -> NDArray[np.intp] | slice:
    """Which of `count` points a fit looks at."""
    return slice(None) if count <= FIT_POINTS else np.sort(np.random.default_rng(count).permutation(count)[:FIT_POINTS])


def fit_patches(base: Base, lay: Grid, patches: Integers, levels: int, steps: int) -> NDArray[np.float32]:
    """Latents (P, L) of `patches` (P, N, channels) of `levels` levels, that lie on `lay`."""
    network, spread = modulated(base)
    x, chosen = _fitted_points(base, lay)
    found = [np.empty((0, network.latents), np.float32)]
    for part in _fitted_parts(network, len(patches), len(x)):
        targets = _targets(patches[part], levels)
        if base.part == OUTPUT:
            found.append(solve(network, x, targets[:, chosen]).numpy())
            continue
        start = amortised(base, targets, lay.edges, lay.axes)
        found.append(fit(network, spread, x, targets[:, chosen], start, steps)[0].numpy())
    return np.concatenate(found)


def patch_errors(
    base: Base, lay: Grid, patches: Integers, levels: int, latents: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean squared errors (P,) of `latents` (P, L), where a fit looks at them, and half their gradients (P, L); the others are `fit_patches`'s."""
    network, _ = modulated(base)
    x, chosen = _fitted_points(base, lay)
    losses, gradients = np.empty(len(patches), np.float32), np.empty(latents.shape, np.float32)
    for part in _fitted_parts(network, len(patches), len(x)):
        found = errors(network, x, _targets(patches[part], levels)[:, chosen], torch.from_numpy(latents[part]))
        losses[part], gradients[part] = (tensor.numpy() for tensor in found)
    return losses, gradients


def _fitted_points(base: Base, lay: Grid) -> tuple[torch.Tensor, NDArray[np.intp] | slice]:
    """Coordinates (N, dims) that a fit looks at, and which of all they are."""
    coordinates = lay.coordinates()
    # Linear latents are solved for: all points take little, and fewer would let fine detail pass for coarse.
    chosen = slice(None) if base.part == OUTPUT else fit_points(len(coordinates))
    return torch.from_numpy(coordinates[chosen]).float() / 2**ACTIVATION_BITS, chosen


def _fitted_parts(network: Modulated, patches: int, points: int) -> Iterator[slice]:
    """As many of all patches at a time as memory takes."""
    siren = network.siren
    # Where patches share their hidden layers, samples and differences are all there is of each.
    values = 4 * len(siren.biases[-1]) if network.part == OUTPUT else len(siren.biases[0]) * (len(siren.weights) + 4)
    batch = max(1, _FIT_BYTES // (4 * points * values))
    return (slice(begin, begin + batch) for begin in range(0, patches, batch))


def _targets(patches: Integers, levels: int) -> torch.Tensor:
    return torch.from_numpy(patches).float() / max(levels - 1, 1)


def quantize_patches(base: Base, latents: NDArray[np.int32], patches: Integers, coordinates: Integers, levels: int) -> PatchCodes:
    """Codes of `patches` (P, N, channels) with the `latents` (P, L) in integers.

    A patch is coded as one colour where that is as near as what the network makes; where latents are predicted from those of neighbours, which a
    colour in place of one would change, only where it has no other.
    """
    colours = (2 * patches.sum(axis=1) + patches.shape[1]) // (2 * patches.shape[1])
    if base.prior is not None:
        constant = (patches == patches[:, :1]).all(axis=(1, 2))
        return PatchCodes(constant, colours[constant], latents[~constant])
    constant = np.empty(len(patches), np.bool_)
    at_once = at_a_time(base, len(coordinates))
    for begin in range(0, len(patches), at_once):
        part = slice(begin, begin + at_once)
        made = _evaluated(base, latents[part], coordinates, levels)
        constant[part] = _squares(patches[part] - colours[part, None]) <= _squares(patches[part] - made)
    return PatchCodes(constant, colours[constant], latents[~constant])


def at_a_time(base: Base, points: int) -> int:
    """How many patches of so many points are reconstructed at a time."""
    return min(CHUNK, max(1, _SAMPLES // (points * base.channels)))


def reconstruct(base: Base, codes: PatchCodes, coordinates: Integers, levels: int) -> Levels:
    """Patches (P, N, channels) of levels, exactly what every decoder makes of `codes`."""
    if codes.constant.all():
        colours = np.clip(codes.colours, 0, levels - 1).astype(np.uint16)
        return np.broadcast_to(colours[:, None], (len(codes), len(coordinates), base.channels))
    result = np.empty((len(codes), len(coordinates), base.channels), np.uint16)
    result[codes.constant] = np.clip(codes.colours, 0, levels - 1)[:, None]
    result[~codes.constant] = _evaluated(base, codes.latents, coordinates, levels)
    return result


def _evaluated(base: Base, latents: NDArray[np.int32], coordinates: Integers, levels: int) -> Levels:
    if base.part == OUTPUT:
        outputs = base.outputs(latents.astype(np.int64))
        return rendered(lambda points: evaluate_outputs(base.network, points, outputs, levels), coordinates, len(latents), base.channels)
    shifts = base.shifts(latents.astype(np.int64))
    return rendered(lambda points: evaluate(base.network, points, shifts, levels), coordinates, len(latents), base.channels)


def _squares(difference: Integers) -> Integers:
    return np.square(difference).sum(axis=(1, 2))
