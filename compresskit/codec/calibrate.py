"""From a trained network to a base network: latents that distort alike and are uncorrelated, integers, quantizers, frequency tables.

    latents z --whitened by the network's sensitivity J'J--> distance is error --rotated to principal axes--> latents of the base network

A bin of one width for all latents then costs the same error everywhere, and latents that vary less than it cost next to no bits: reverse
water-filling (Cover and Thomas 2006, section 10.3.3). The thesis cuts each latent into 2**b bins of its own (section 5.2.3).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compresskit.codec.base import Base
from compresskit.codec.config import LATENT_BITS
from compresskit.codec.entropy import normalize
from compresskit.codec.exact import MAX_FRACTION
from compresskit.codec.fit import fit
from compresskit.codec.metatrain import Draw, TrainBaseConfig, TrainedBase
from compresskit.codec.modulation import Modulated, jacobian
from compresskit.codec.quantize import LATENT_FRACTION
from compresskit.codec.siren import MIDDLE, to_integer

SAMPLE, FITTED, BATCH = 8192, 2048, 64  # patches that directions, and that tables, are taken from
FIT_STEPS = 5
POINTS = 1024  # of a patch that statistics look at
SENSITIVITIES = 96  # patches whose derivatives are averaged: where latents are zero, they are not typical
DEVIATIONS = 3.0  # that the bins of the widest latent cover, on either side
MAPPING_BITS = 23
_LEAST_SPREAD = 1e-8  # of the largest variance
_LEAST_SENSITIVITY = 1e-6  # of the largest eigenvalue: directions below make no difference that is worth a bit
_SEED_OFFSET = 1  # so that tables are counted on patches that training did not draw in the same order


def calibrate(trained: TrainedBase, draw: Draw, x: Tensor, config: TrainBaseConfig, *, name: str, geometry: str, edges: tuple[int, ...]) -> Base:
    """Make the base network that is shipped of a network that was trained.

    Args:
        trained: the network, with its amortised fit.
        draw: where patches come from.
        x: (N, dims) their coordinates.
        config: of the training.
        name, geometry, edges: of the base network.
    """
    generator = torch.Generator().manual_seed(config.seed + _SEED_OFFSET)
    chosen = torch.randperm(len(x), generator=generator)[:POINTS]
    latents = torch.cat([trained.encode(draw(BATCH, generator)) for _ in range(SAMPLE // BATCH)])
    network, turn, spread = _rotated(trained.network, latents, x[chosen])
    encoder = (trained.encoder.double() @ turn).float()
    offset = -(trained.mean + MIDDLE) @ encoder
    fitted = min(FITTED, config.patches)  # a training that looked at fewer is not worth more of them
    drawn = [draw(BATCH, generator) for _ in range(math.ceil(fitted / BATCH))]
    fits = [fit(network, spread, x[chosen], batch[:, chosen], batch.flatten(1) @ encoder + offset, FIT_STEPS)[0] for batch in drawn]
    found = torch.cat(fits).double().numpy()
    centers = np.rint(np.ldexp(found.mean(axis=0), LATENT_FRACTION)).astype(np.int64)
    reach = 2 * DEVIATIONS * float(spread.max())
    steps = {bits: max(1, round(math.ldexp(reach, LATENT_FRACTION - bits))) for bits in LATENT_BITS}
    widths = np.maximum(np.rint(np.ldexp(spread.double().numpy(), LATENT_FRACTION)), 1).astype(np.int64)
    mapping, fraction = _integers(network.mapping.double().numpy() * config.omega / (2 * math.pi))
    tables = {bits: _table(found, centers, steps[bits], bits) for bits in LATENT_BITS}
    return Base(
        name,
        geometry,
        edges,
        config.omega,
        to_integer(network.siren),
        mapping,
        fraction,
        centers,
        widths,
        steps,
        tables,
        encoder.numpy(),
        offset.numpy(),
    )


def _rotated(network: Modulated, latents: Tensor, x: Tensor) -> tuple[Modulated, Tensor, Tensor]:
    """The same functions under other latents; the matrix (L, L) that turns the old latents into these; and how far typical ones spread (L,).

    Squared distance is the mean squared error, and typical latents, those of the amortised fit, are uncorrelated, the widest first.
    """
    values, vectors = torch.linalg.eigh(_sensitivity(network, latents[:SENSITIVITIES], x))
    scale = values.clamp(min=_LEAST_SENSITIVITY * float(values[-1])).sqrt()
    whitened = (latents.double() @ vectors) * scale
    variances, axes = torch.linalg.eigh(torch.cov(whitened.T))
    axes = axes.flip(dims=(1,))
    least = _LEAST_SPREAD * float(variances[-1])
    mapping = network.mapping.double() @ (vectors / scale @ axes)
    return Modulated(network.siren, mapping.float()), vectors * scale @ axes, variances.flip(dims=(0,)).clamp(min=least).sqrt().float()


def _sensitivity(network: Modulated, latents: Tensor, x: Tensor) -> Tensor:
    """J'J a sample (L, L), averaged over `latents` (P, L)."""
    total = torch.zeros(network.latents, network.latents, dtype=torch.float64)
    for latent in latents:
        derivatives = jacobian(network, x, latent)
        total += (derivatives.T @ derivatives).double() / len(derivatives)
    return total / len(latents)


def _integers(values: NDArray[np.float64]) -> tuple[NDArray[np.int64], int]:
    """`values` on the finest grid that leaves them below 2**MAPPING_BITS, and that grid's fractional bits."""
    fraction = min(MAPPING_BITS - 1 - math.frexp(float(np.abs(values).max()))[1], MAX_FRACTION)
    return np.rint(np.ldexp(values, fraction)).astype(np.int64), fraction


def _table(latents: NDArray[np.float64], centers: NDArray[np.int64], step: int, bits: int) -> NDArray[np.uint32]:
    """Frequencies (L, 2**bits) of the bins, smoothed as far as the sample's size asks for (Silverman 1986, eq. 3.31)."""
    middle = 1 << bits - 1
    bins = np.rint((np.ldexp(latents, LATENT_FRACTION) - centers) / step).astype(np.int64) + middle
    bins = np.clip(bins, 0, 2 * middle - 1)
    symbols = np.arange(2 * middle)
    rows = []
    for column in bins.T:
        counts = np.bincount(column, minlength=2 * middle).astype(np.float64)
        bandwidth = max(0.9 * float(column.std()) * len(column) ** -0.2, 0.3)
        kernel = np.exp(-0.5 * ((symbols[:, None] - symbols) / bandwidth) ** 2)
        smooth = counts @ (kernel / kernel.sum(axis=1, keepdims=True))
        # What lies far out was not seen, and is not impossible.
        tails = np.exp(-np.abs(symbols - column.mean()) / (column.std() + 0.1))
        rows.append(smooth + 0.02 * len(column) * tails / tails.sum())
    return normalize(np.rint(np.stack(rows) * 256).astype(np.int64))
