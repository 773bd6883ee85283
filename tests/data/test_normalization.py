from __future__ import annotations

import numpy as np
import pytest
import torch

from compresskit.data.normalization import choose_normalization, compute_normalization, normalize
from compresskit.errors import InputError, UsageError
from compresskit.models.graph import Normalization

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("x", "axes"),
    [
        (RNG.integers(0, 256, (3000, 3, 24, 30), np.uint8), (0, 2, 3)),
        (RNG.integers(0, 256, (300, 24, 30, 3), np.uint8), (0, 1, 2)),
        (RNG.normal(5000.0, 0.01, (300, 7)).astype(np.float32), (0,)),
        (RNG.integers(0, 256, (300, 7), np.uint8), (0, 1)),
        (RNG.normal(3.0, 2.0, (300, 20, 14)).astype(np.float32), (0, 1, 2)),
    ],
    ids=["NCHW", "NHWC", "columns", "flat pixels", "sequences"],
)
def test_computed_statistics_are_numpys_in_double(x: np.ndarray, axes: tuple[int, ...]) -> None:
    reference = x.astype(np.float64) / (255 if x.dtype == np.uint8 else 1)
    computed = compute_normalization(x)
    np.testing.assert_allclose(computed.mean, np.atleast_1d(reference.mean(axes)), rtol=1e-12)
    np.testing.assert_allclose(computed.std, np.atleast_1d(reference.std(axes)), rtol=1e-9)


def test_computed_normalization_gives_mean_0_and_deviation_1_and_spares_constants() -> None:
    x = RNG.normal(4.0, 3.0, (500, 3, 6, 6)).astype(np.float32)
    x[:, 1] = 7.0
    normalized = normalize(torch.from_numpy(x), compute_normalization(x))
    torch.testing.assert_close(normalized.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalized.std((0, 2, 3)), torch.tensor([1.0, 0.0, 1.0]), atol=1e-3, rtol=0)


def test_uint8_is_divided_by_255_and_floats_are_not() -> None:
    pixels = torch.tensor([[0, 51, 255]], dtype=torch.uint8)
    half = Normalization((0.5,), (0.25,))
    assert normalize(pixels, half)[0].tolist() == pytest.approx([-2.0, -1.2, 2.0])
    assert normalize(pixels.float(), half).tolist() == [[-2.0, 202.0, 1018.0]]


def test_channels_take_their_own_entry_in_both_layouts() -> None:
    normalization = Normalization((0.0, 1.0, 2.0), (1.0, 2.0, 4.0))
    x = torch.randn(2, 3, 5, 6)
    expected = torch.stack([x[:, 0], (x[:, 1] - 1) / 2, (x[:, 2] - 2) / 4], 1)
    torch.testing.assert_close(normalize(x, normalization), expected)
    torch.testing.assert_close(normalize(x.permute(0, 2, 3, 1).contiguous(), normalization), expected.permute(0, 2, 3, 1))


def test_the_batch_that_is_normalized_stays_as_it_was() -> None:
    x = torch.ones(2, 3)
    normalize(x, Normalization((1.0,), (1.0,)))
    assert torch.equal(x, torch.ones(2, 3))


def test_precedence() -> None:
    said, stored = Normalization((0.1,), (0.2,)), Normalization((0.3,), (0.4,))
    x = RNG.random((20, 3, 4, 4)).astype(np.float32)
    assert choose_normalization(x, said, stored, "m:f") == (said, "--mean/--std")
    assert choose_normalization(x, None, stored) == (stored, "checkpoint")
    assert choose_normalization(x, None, None) == (compute_normalization(x), "computed from 20 training samples")
    assert choose_normalization(x, None, stored, "m:f") == (Normalization((0.0,), (1.0,)), "as delivered by m:f")
    assert choose_normalization((x * 255).astype(np.uint8), None, stored, "m:f") == (stored, "checkpoint")


@pytest.mark.parametrize(
    "bad",
    [
        Normalization((0.0, 0.0), (1.0,)),
        Normalization((0.0,), (0.0,)),
        Normalization((0.0,), (-1.0,)),
        Normalization((float("nan"),), (1.0,)),
        Normalization((), (1.0,)),
    ],
)
def test_what_does_not_fit_is_refused(bad: Normalization) -> None:
    x = np.zeros((2, 3, 4, 4), np.float32)
    with pytest.raises(UsageError, match="--mean/--std"):
        choose_normalization(x, bad, None)
    with pytest.raises(InputError, match="checkpoint"):
        choose_normalization(x, None, bad)
