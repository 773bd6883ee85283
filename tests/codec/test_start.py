"""Where a fit begins: the same field on another grid stays the same field, and the training grid is left as it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compresskit.codec.base import Base
from compresskit.codec.start import amortised, globe_axes, regridded, resampled

EDGES = (24, 48)


def field(latitudes: np.ndarray, longitudes: np.ndarray) -> torch.Tensor:
    """A smooth function on the globe (1, lat, lon, 1)."""
    lat, lon = np.meshgrid(np.radians(latitudes), np.radians(longitudes), indexing="ij")
    return torch.from_numpy(0.5 + 0.3 * np.sin(lat) + 0.1 * np.cos(lat) * np.cos(lon - 1)).float()[None, ..., None]


@pytest.mark.parametrize(
    ("latitudes", "longitudes"),
    [
        (np.linspace(-90, 90, 73), np.arange(0, 360, 2.5)),
        (np.linspace(88.75, -88.75, 72), np.arange(-180, 180, 2.5)),
        (np.linspace(-89, 89, 90), np.arange(10, 370, 4.0)),
    ],
    ids=["northwards", "southwards from the date line", "beyond 360"],
)
def test_a_field_stays_the_same_on_other_grids(latitudes: np.ndarray, longitudes: np.ndarray) -> None:
    wanted = globe_axes(EDGES)
    found = regridded(field(latitudes, longitudes), (latitudes, longitudes), wanted)
    assert found.shape == (1, *EDGES, 1)
    torch.testing.assert_close(found, field(*wanted), atol=4e-3, rtol=0)


def test_the_training_grid_is_left_as_it_is() -> None:
    axes = globe_axes(EDGES)
    torch.testing.assert_close(regridded(field(*axes), axes, axes), field(*axes))
    frames = torch.rand(2, 8, 8, 3)
    assert resampled(frames, (8, 8)) is frames


@pytest.mark.parametrize("edges", [(4, 6), (20, 17)])
def test_linear_patches_stay_linear_on_finer_grids_and_keep_their_mean_on_coarser_ones(edges: tuple[int, ...]) -> None:
    x = (2 * torch.arange(12) + 1) / 12 - 1
    frames = (x[:, None] + 2 * x[None, :])[None, ..., None]
    found = resampled(frames, edges)
    assert found.shape == (1, *edges, 1)
    assert abs(float(found.mean())) < 1e-5
    y, z = ((2 * torch.arange(edge) + 1) / edge - 1 for edge in edges)
    inner = (slice(None), slice(2, -2), slice(2, -2), slice(None)) if min(edges) > 12 else ...
    torch.testing.assert_close(found[inner], (y[:, None] + 2 * z[None, :])[None, ..., None][inner], atol=0.06, rtol=0)


def test_a_start_is_a_matrix_product_with_the_encoder(former_base: Base) -> None:
    patches = torch.rand(5, int(np.prod(former_base.edges)), 3, generator=torch.Generator().manual_seed(0))
    expected = patches.flatten(1).double().numpy() @ former_base.encoder.astype(np.float64) + former_base.offset
    np.testing.assert_allclose(amortised(former_base, patches, former_base.edges, ()).numpy(), expected, atol=1e-4)
