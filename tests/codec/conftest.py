"""Small base networks, and signals that they fit: what tests of the codec share. Nothing here depends on the networks that ship."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from itertools import islice, product
from pathlib import Path

import numpy as np
import pytest
import torch

from compresskit.codec import calibrate as calibration
from compresskit.codec import learnprior
from compresskit.codec.base import SYMBOL_BITS, Base, save_base
from compresskit.codec.coordinates import grid
from compresskit.codec.entropy import normalize
from compresskit.codec.exact import ACTIVATION_BITS, SHIFTS
from compresskit.codec.metatrain import Draw, TrainBaseConfig, train
from compresskit.codec.modulation import Modulated, jacobian
from compresskit.codec.quantize import LATENT_FRACTION
from compresskit.codec.siren import init, to_integer

SIZES = TrainBaseConfig(width=16, depth=2, latents=8, start=60, batch=32)  # enough to beat a constant
EDGES = {1: (32,), 2: (8, 8), 3: (6, 6, 6)}
SIDE = 3
"""Patches along each axis of the blocks from which base networks learn what neighbours tell."""

MakeBase = Callable[[int, int], Base]


def waves(edges: tuple[int, ...], channels: int, side: int = 1) -> tuple[Draw, torch.Tensor]:
    """Random smooth blocks of patches, `side` along each axis, and the coordinates of their samples, of which a patch goes from -1 to 1."""
    x = torch.from_numpy(grid(tuple(side * edge for edge in edges))).float() * (side / 2**ACTIVATION_BITS)

    def draw(count: int, generator: torch.Generator) -> torch.Tensor:
        slopes = 2 * torch.randn(count, x.shape[1], channels, generator=generator)
        phases = 6 * torch.rand(count, 1, channels, generator=generator)
        return 0.5 + 0.4 * torch.sin(x @ slopes + phases)

    return draw, x


def cosines(x: torch.Tensor, channels: int, count: int) -> torch.Tensor:
    """The smoothest `count` fields (N x channels, count) at coordinates `x` (N, dims), each in one channel, of mean square 1."""
    orders = sorted(product(range(count), repeat=x.shape[1]), key=sum)
    found = []
    for order, channel in islice(product(orders, range(channels)), count):
        field = torch.zeros(len(x), channels)
        field[:, channel] = torch.cos(math.pi / 2 * torch.tensor(order) * (x + 1)).prod(dim=1)
        found.append(field.flatten() / field.square().mean().sqrt())
    return torch.stack(found, dim=1)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Tensors here are too small to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def make_base() -> MakeBase:
    """The base network for grids of so many axes and so many channels; each is trained once."""
    made: dict[tuple[int, int], Base] = {}

    def make(axes: int, channels: int) -> Base:
        if (axes, channels) not in made:
            draw, x = waves(EDGES[axes], channels)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(calibration, "SAMPLE", 256)
                patch.setattr(calibration, "FITTED", 1152)
                patch.setattr(learnprior, "STEPS", 50)
                trained = train(draw, x, SIZES)
                blocks = (waves(EDGES[axes], channels, SIDE)[0], (SIDE,) * axes)
                made[axes, channels] = calibration.calibrate(trained, draw, x, SIZES, name="tiny", geometry="grid", edges=EDGES[axes], blocks=blocks)
        return made[axes, channels]

    return make


@pytest.fixture(scope="session")
def make_former() -> MakeBase:
    """The base network of the former kind for grids of so many axes and so many channels: shifts of a random network that add cosines, about."""
    made: dict[tuple[int, int], Base] = {}

    def make(axes: int, channels: int) -> Base:
        if (axes, channels) not in made:
            made[axes, channels] = former(EDGES[axes], channels)
        return made[axes, channels]

    return make


def former(edges: tuple[int, ...], channels: int) -> Base:
    """A base network with tables: a latent of 1 makes about a mean squared error of 1, and latents are usually some tenths."""
    x, latents = torch.from_numpy(grid(edges)).float() / 2**ACTIVATION_BITS, SIZES.latents
    siren = init(len(edges), 32, 2, channels, 3.0, torch.Generator().manual_seed(0))
    by_shift = jacobian(Modulated(siren, torch.eye(64), SHIFTS), x).double()
    wanted = cosines(x, channels, latents).double()
    gram = by_shift.T @ by_shift / len(by_shift) + 1e-2 * torch.eye(64).double()
    mapping = torch.linalg.solve(gram, by_shift.T @ wanted / len(by_shift)).numpy() * (siren.omega / (2 * math.pi))
    spread = np.full(latents, 0.2)
    fraction, encoder = 16, torch.linalg.pinv(wanted).T
    steps = {bits: int(math.ldexp(6 * spread[0], LATENT_FRACTION - bits)) for bits in SYMBOL_BITS}
    tables = {}
    for bits, step in steps.items():
        bins = np.arange(-(1 << bits - 1), 1 << bits - 1) * math.ldexp(step, -LATENT_FRACTION)
        tables[bits] = normalize(np.rint(2**20 * np.exp(-np.abs(bins) / spread[:, None])).astype(np.int64))
    return Base(
        "former",
        "grid",
        edges,
        siren.omega,
        to_integer(siren),
        np.rint(np.ldexp(mapping, fraction)).astype(np.int64),
        fraction,
        np.zeros(latents, np.int64),
        np.rint(np.ldexp(spread, LATENT_FRACTION)).astype(np.int64),
        steps,
        None,
        tables,
        encoder.float().numpy(),
        (-0.5 * encoder.sum(dim=0)).float().numpy(),
    )


@pytest.fixture(scope="session")
def colour_base(make_base: MakeBase) -> Base:
    """For pictures."""
    return make_base(2, 3)


@pytest.fixture(scope="session")
def former_base(make_former: MakeBase) -> Base:
    """For pictures, of the former kind."""
    return make_former(2, 3)


@pytest.fixture(scope="session", params=["now", "formerly"])
def make_either(request: pytest.FixtureRequest, make_base: MakeBase, make_former: MakeBase) -> MakeBase:
    """Base networks of either kind."""
    return make_base if request.param == "now" else make_former


@pytest.fixture(scope="session")
def either(make_either: MakeBase) -> Base:
    """For pictures, of either kind."""
    return make_either(2, 3)


@pytest.fixture(scope="session")
def base_file(make_base: MakeBase, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int], Path]:
    """The file of such a base network."""
    folder = tmp_path_factory.mktemp("bases")

    def file(axes: int, channels: int) -> Path:
        path = folder / f"{axes}-{channels}.base.safetensors"
        if not path.exists():
            path.write_bytes(save_base(make_base(axes, channels)))
        return path

    return file


def smooth(shape: tuple[int, ...]) -> np.ndarray:
    """Samples (*shape) in 0..1 that change slowly along every axis."""
    axes = np.meshgrid(*(np.linspace(0, 1 + index / 3, size) for index, size in enumerate(shape)), indexing="ij")
    return 0.5 + 0.4 * np.sin(3 * sum(axes))


def npy(values: np.ndarray) -> bytes:
    """`values` as a file."""
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def smooth_samples() -> Callable[[tuple[int, ...]], np.ndarray]:
    """Makes smooth samples of a shape."""
    return smooth


@pytest.fixture(scope="session")
def npy_bytes() -> Callable[[np.ndarray], bytes]:
    """Makes the file of an array."""
    return npy
