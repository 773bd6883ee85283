"""Small base networks, and signals that they fit: what tests of the codec share. Nothing here depends on the networks that ship."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from compresskit.codec import calibrate as calibration
from compresskit.codec.base import Base, save_base
from compresskit.codec.coordinates import grid
from compresskit.codec.exact import ACTIVATION_BITS
from compresskit.codec.metatrain import Draw, TrainBaseConfig, train

SIZES = TrainBaseConfig(width=16, depth=2, latents=8, start=0, steps=300, batch=32, points=64, lr=3e-3)  # enough to beat a constant
EDGES = {1: (32,), 2: (8, 8), 3: (6, 6, 6)}
MakeBase = Callable[[int, int], Base]


def waves(edges: tuple[int, ...], channels: int) -> tuple[Draw, torch.Tensor]:
    """Random smooth patches, and their coordinates."""
    x = torch.from_numpy(grid(edges)).float() / 2**ACTIVATION_BITS

    def draw(count: int, generator: torch.Generator) -> torch.Tensor:
        slopes = 2 * torch.randn(count, x.shape[1], channels, generator=generator)
        phases = 6 * torch.rand(count, 1, channels, generator=generator)
        return 0.5 + 0.4 * torch.sin(x @ slopes + phases)

    return draw, x


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
                patch.setattr(calibration, "SENSITIVITIES", 8)
                trained = train(draw, x, SIZES)
                made[axes, channels] = calibration.calibrate(trained, draw, x, SIZES, name="tiny", geometry="grid", edges=EDGES[axes])
        return made[axes, channels]

    return make


@pytest.fixture(scope="session")
def colour_base(make_base: MakeBase) -> Base:
    """For pictures."""
    return make_base(2, 3)


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
