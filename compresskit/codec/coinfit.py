"""A signal to a network of its own: what a process, or a worker of a cluster, does for COIN.

levels --fit--> Siren --quantize--> symbols --pack--> chunk
                                       └──network──> levels, as every decoder finds them
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from compresskit.codec import coin
from compresskit.codec.coinpayload import pack_coin
from compresskit.codec.coordinates import grid
from compresskit.codec.exact import ACTIVATION_BITS, IntegerNetwork, evaluate
from compresskit.codec.levels import Levels, rendered
from compresskit.progress import SILENT, Progress


@dataclass(frozen=True, eq=False)
class CoinTask:
    """One signal for COIN.

    Attributes:
        samples: (frames, *spatial, channels) its levels.
        levels: how many there are.
        budget, bits: of the network, and of each of its weights.
        steps, seed: of the fit.
    """

    samples: Levels
    levels: int
    budget: float
    bits: int
    steps: int
    seed: int


def fit_coin(task: CoinTask, progress: Progress = SILENT) -> tuple[bytes, Levels]:
    """The chunk of a network for one signal, and the levels that it decodes to."""
    coordinates = coin_coordinates(task.samples.shape)
    dims, channels = coordinates.shape[1], task.samples.shape[-1]
    width, depth = coin.architecture(task.budget, dims, channels, task.bits)
    targets = torch.from_numpy(task.samples.reshape(-1, channels).astype(np.float32)) / max(task.levels - 1, 1)
    generator = torch.Generator().manual_seed(task.seed)
    points = torch.from_numpy(coordinates).float() / 2**ACTIVATION_BITS
    siren = coin.fit(points, targets, coin.CoinConfig(width, depth, task.steps, lr=coin.learning_rate(width)), generator, progress)
    symbols = coin.quantize(siren, task.bits)
    network = coin.network(symbols, dims, width, depth, channels)
    decoded = coin_levels(network, coordinates, task.levels).reshape(task.samples.shape)
    return pack_coin(symbols, width, depth), decoded


def coin_levels(network: IntegerNetwork, coordinates: NDArray[np.int64], levels: int) -> Levels:
    """Levels (N, channels) that a network of COIN makes at `coordinates` (N, dims)."""
    return rendered(lambda points: evaluate(network, points, None, levels), coordinates, 1, network.channels)[0]


def coin_coordinates(shape: tuple[int, ...], scale: int = 1) -> NDArray[np.int64]:
    """Coordinates (points, dims) of all samples of a signal; several frames are one more dimension."""
    spatial = tuple(size * scale for size in shape[1:-1])
    return grid(spatial if shape[0] == 1 else (shape[0], *spatial))
