"""Noise and its removal."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from compresskit.recommend.diffusion.process import kept, noised, parts, sample


@given(st.floats(0, 1), st.integers(0, 2**31))
def test_both_parts_follow_from_v(t: float, seed: int) -> None:
    x, noise = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(seed)).unbind()
    times = torch.full((3,), t)
    noisy, v = noised(x, noise, times)
    clean, left = parts(noisy, v, times)
    torch.testing.assert_close(clean, x, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(left, noise, atol=1e-4, rtol=1e-4)


def test_the_signal_fades() -> None:
    shares = kept(torch.linspace(0, 1, 101))
    assert (shares.diff() <= 0).all()
    assert shares[0] == 1
    assert shares[-1] < 1e-4


def test_the_best_denoiser_of_a_normal_distribution_draws_that_distribution() -> None:
    mean, std = 2.0, 0.5

    def best(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        share = kept(t)[:, None]
        clean = mean + share.sqrt() * std**2 * (x - share.sqrt() * mean) / (share * std**2 + 1 - share)
        noise = (x - share.sqrt() * clean) / (1 - share).sqrt().clamp(min=1e-6)
        return share.sqrt() * noise - (1 - share).sqrt() * clean

    drawn = sample(best, torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0)), 100)
    assert abs(drawn.mean() - mean) < 0.02
    assert abs(drawn.std() - std) < 0.03
