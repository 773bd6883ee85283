"""From a trained network to a base network: latents that distort alike and are uncorrelated, integers, steps, and what is expected of latents.

    latents z --whitened by the network's sensitivity J'J--> distance is error --rotated to principal axes--> latents of the base network

A bin of one width for all latents then costs the same error everywhere, and latents that vary less than it cost next to no bits: reverse
water-filling (Cover and Thomas 2006, section 10.3.3). The thesis cuts each latent into 2**b bins of its own (section 5.2.3).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compresskit.codec.base import Base
from compresskit.codec.config import HALF_BITS
from compresskit.codec.exact import MAX_FRACTION
from compresskit.codec.fit import solve
from compresskit.codec.latentprior import latents_of
from compresskit.codec.learnprior import Blocks, learn_prior
from compresskit.codec.metatrain import Draw, TrainBaseConfig, TrainedBase
from compresskit.codec.modulation import Modulated, jacobian
from compresskit.codec.quantize import LATENT_FRACTION
from compresskit.codec.siren import to_integer

SAMPLE, FITTED, BATCH = 8192, 2**15, 64  # patches that directions, and that expectations, are taken from
DEVIATIONS = 3.0  # that the bins of the widest latent cover, on either side
REACH = 10.0  # deviations that weights of the output layer may be off those of the mean patch
MAPPING_BITS = 23
_LEAST_SPREAD = 1e-8  # of the largest variance
_LEAST_SENSITIVITY = 1e-6  # of the largest eigenvalue: directions below make no difference that is worth a bit
_SEED_OFFSET = 1  # so that expectations are learned from patches that training did not draw in the same order


def calibrate(
    trained: TrainedBase,
    draw: Draw,
    x: Tensor,
    config: TrainBaseConfig,
    *,
    name: str,
    geometry: str,
    edges: tuple[int, ...],
    blocks: tuple[Draw, tuple[int, ...]] | None = None,
) -> Base:
    """Make the base network that is shipped of a network that was trained.

    Args:
        trained: the network, with its amortised fit.
        draw: where patches come from.
        x: (N, dims) their coordinates.
        config: of the training.
        name, geometry, edges: of the base network.
        blocks: where patches come from that lie next to each other, and how many along each axis; None: none do.
    """
    generator = torch.Generator().manual_seed(config.seed + _SEED_OFFSET)
    latents = torch.cat([trained.encode(draw(BATCH, generator)) for _ in range(SAMPLE // BATCH)])
    network, spread = _rotated(trained.network, latents, x)
    draw_blocks, counts = blocks or (draw, (1,) * len(edges))
    wanted = max(FITTED // math.prod(counts), 1)
    drawn = [draw_blocks(min(BATCH, wanted - begin), generator) for begin in range(0, wanted, BATCH)]
    patches = _patches(torch.cat(drawn), counts, edges)
    fitted = solve(network, x, patches).double().numpy()
    centers = np.rint(np.ldexp(fitted.mean(axis=0), LATENT_FRACTION)).astype(np.int64)
    widest = 2 * DEVIATIONS * float(spread.max())
    steps = {bits: max(1, round(widest * 2 ** (LATENT_FRACTION - bits))) for bits in HALF_BITS}
    deviations = latents_of(fitted, centers).reshape(wanted, math.prod(counts), -1)
    mapping, fraction = _integers(network.mapping.double().numpy())
    reach = float(network.siren.weights[-1].abs().max() + REACH * (network.mapping * spread).norm(dim=1).max())
    return Base(
        name,
        geometry,
        edges,
        config.omega,
        to_integer(network.siren, output_reach=reach),
        mapping,
        fraction,
        centers,
        np.maximum(np.rint(np.ldexp(spread.double().numpy(), LATENT_FRACTION)), 1).astype(np.int64),
        steps,
        learn_prior(Blocks(counts, deviations), steps, _flat(network, x, centers), config.seed),
    )


def _patches(blocks: Tensor, counts: tuple[int, ...], edges: tuple[int, ...]) -> Tensor:
    """Patches (blocks x patches of a block, N, channels) of `blocks` (blocks, samples, channels), block by block in C order."""
    axes = len(edges)
    apart = blocks.unflatten(1, [size for pair in zip(counts, edges, strict=True) for size in pair])
    order = [0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1]
    return apart.permute(order).flatten(axes + 1, 2 * axes).flatten(0, axes)


def _flat(network: Modulated, x: Tensor, centers: NDArray[np.int64]) -> NDArray[np.int64]:
    """As in `LatentPrior`."""
    channels = len(network.siren.biases[-1])
    colours = torch.cat([torch.eye(channels), torch.zeros(1, channels)])
    found = solve(network, x, colours.unsqueeze(1).expand(-1, len(x), -1)).double().numpy()
    black = latents_of(found[-1:], centers)
    return np.concatenate([latents_of(found[:-1], centers) - black, black])


def _rotated(network: Modulated, latents: Tensor, x: Tensor) -> tuple[Modulated, Tensor]:
    """The same functions under other latents, and how far typical ones spread (L,).

    Squared distance is the mean squared error, and typical latents, those of the amortised fit, are uncorrelated, the widest first.
    """
    derivatives = jacobian(network, x).double()
    values, vectors = torch.linalg.eigh(derivatives.T @ derivatives / len(derivatives))
    scale = values.clamp(min=_LEAST_SENSITIVITY * float(values[-1])).sqrt()
    whitened = (latents.double() @ vectors) * scale
    variances, axes = torch.linalg.eigh(torch.cov(whitened.T))
    axes = axes.flip(dims=(1,))
    least = _LEAST_SPREAD * float(variances[-1])
    mapping = network.mapping.double() @ (vectors / scale @ axes)
    return replace(network, mapping=mapping.float()), variances.flip(dims=(0,)).clamp(min=least).sqrt().float()


def _integers(values: NDArray[np.float64]) -> tuple[NDArray[np.int64], int]:
    """`values` on the finest grid that leaves them below 2**MAPPING_BITS, and that grid's fractional bits."""
    fraction = min(MAPPING_BITS - 1 - math.frexp(float(np.abs(values).max()))[1], MAX_FRACTION)
    return np.rint(np.ldexp(values, fraction)).astype(np.int64), fraction
