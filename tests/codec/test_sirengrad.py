from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from compresskit.codec.siren import Siren, forward, init
from compresskit.codec.sirengrad import TrainedSiren

SIZES = st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 5), st.integers(1, 4))


def _drawn(sizes: tuple[int, int, int, int], points: int, omega: float) -> tuple[Siren, torch.Tensor, torch.Tensor]:
    """A SIREN of dims, width, depth and channels, and points (N, dims) with samples (N, channels)."""
    generator = torch.Generator().manual_seed(points)
    return (
        init(*sizes, omega, generator),
        2 * torch.rand(points, sizes[0], generator=generator) - 1,
        torch.rand(points, sizes[3], generator=generator),
    )


@given(SIZES, st.integers(1, 50), st.sampled_from([1.0, 30.0]))
def test_gradients_are_those_of_autograd(sizes: tuple[int, int, int, int], points: int, omega: float) -> None:
    siren, x, y = _drawn(sizes, points, omega)
    trained = TrainedSiren(siren, points)
    for _ in range(2):  # what one pass leaves behind is none of the next one's business
        trained.gradient(x.T, y.T)
    for parameter in (*siren.weights, *siren.biases):
        parameter.requires_grad_()
    F.mse_loss(forward(siren, x), y).backward()  # type: ignore[no-untyped-call]
    joined = [torch.cat([weight.grad, bias.grad[:, None]], dim=1) for weight, bias in zip(siren.weights, siren.biases, strict=True)]
    expected = torch.cat([layer.reshape(-1) for layer in joined[:-1]]) / omega
    torch.testing.assert_close(trained.hidden.grad, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(trained.output.grad, joined[-1].reshape(-1), rtol=1e-4, atol=1e-5)


@given(SIZES)
def test_what_goes_in_comes_out(sizes: tuple[int, int, int, int]) -> None:
    siren, x, y = _drawn(sizes, 5, 30.0)
    trained = TrainedSiren(siren, 5)
    trained.gradient(x.T, y.T)
    for before, after in zip((*siren.weights, *siren.biases), (*trained.siren().weights, *trained.siren().biases), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-6, atol=1e-7)


def test_the_siren_of_a_moment_stays_as_it_is() -> None:
    siren, x, _ = _drawn((2, 4, 2, 3), 7, 30.0)
    trained = TrainedSiren(siren, 7)
    kept = trained.siren()
    before = forward(kept, x)
    trained.hidden += 1
    trained.output += 1
    torch.testing.assert_close(forward(kept, x), before)
    assert (forward(trained.siren(), x) - before).abs().max() > 0.1
