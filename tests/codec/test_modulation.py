from __future__ import annotations

import numpy as np
import pytest
import torch

from compresskit.codec.base import Base
from compresskit.codec.coordinates import grid
from compresskit.codec.exact import ACTIVATION_BITS, evaluate
from compresskit.codec.fit import fit
from compresskit.codec.modulation import Modulated, errors, jacobian, render
from compresskit.codec.patchcode import modulated
from compresskit.codec.siren import Siren, init


@pytest.fixture(scope="module")
def network() -> Modulated:
    """In double precision: autograd and the written-out derivatives agree to many digits."""
    generator = torch.Generator().manual_seed(0)
    siren = init(2, 7, 3, 3, 20.0, generator)
    doubled = Siren(tuple(w.double() for w in siren.weights), tuple(b.double() for b in siren.biases), siren.omega)
    return Modulated(doubled, torch.randn(21, 5, generator=generator, dtype=torch.float64) / 20)


def drawn(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def test_gradients_are_those_of_autograd(network: Modulated) -> None:
    x, targets, latents = drawn(11, 2), drawn(4, 11, 3), drawn(4, 5).requires_grad_()
    expected = (render(network, x, latents) - targets).square().mean(dim=(1, 2))
    expected.sum().backward()
    loss, half = errors(network, x, targets, latents.detach())
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(2 * half, latents.grad)


@pytest.mark.parametrize("zero", [True, False])
def test_derivatives_are_those_of_autograd(network: Modulated, zero: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "zeros", lambda *shape, **options: torch.full(shape, 0.0, dtype=torch.float64))
    monkeypatch.setattr(torch, "eye", lambda size: torch.diag(torch.full((size,), 1.0, dtype=torch.float64)))
    x, latent = drawn(9, 2), torch.full((5,), 0.0, dtype=torch.float64) if zero else drawn(5)
    expected = torch.autograd.functional.jacobian(lambda z: render(network, x, z[None])[0].flatten(), latent)
    torch.testing.assert_close(jacobian(network, x, None if zero else latent), expected)


def test_the_floats_of_a_base_network_make_what_its_integers_make(colour_base: Base) -> None:
    network, spread = modulated(colour_base)
    coordinates, levels = grid((8, 8)), 65536
    latents = colour_base.quantizer(8).latents(np.random.default_rng(0).integers(0, 256, (6, colour_base.latents)))
    exact = evaluate(colour_base.network, coordinates, colour_base.shifts(latents), levels)
    floats = render(
        network, torch.from_numpy(coordinates).float() / 2**ACTIVATION_BITS, torch.from_numpy(np.ldexp(latents.astype(float), -16)).float()
    )
    np.testing.assert_allclose(floats.clamp(0, 1).numpy(), exact / (levels - 1), atol=0.01)
    assert bool((spread > 0).all())


def test_a_fit_never_ends_worse_than_it_began(colour_base: Base) -> None:
    network, spread = modulated(colour_base)
    x = torch.from_numpy(grid((8, 8))).float() / 2**ACTIVATION_BITS
    targets = drawn(12, 64, 3).float()
    begun, _ = errors(network, x, targets, torch.zeros(12, colour_base.latents))
    before = begun
    for steps in (0, 1, 3, 10):
        latents, loss = fit(network, spread, x, targets, torch.zeros(12, network.latents), steps)
        torch.testing.assert_close(loss, errors(network, x, targets, latents)[0])
        assert bool((loss <= begun + 1e-6).all())
        before = loss if steps == 0 else before
    torch.testing.assert_close(before, begun)
    assert float(loss.mean()) < float(begun.mean())


def test_patches_are_fitted_each_by_itself(colour_base: Base) -> None:
    network, spread = modulated(colour_base)
    x, targets = torch.from_numpy(grid((8, 8))).float() / 2**ACTIVATION_BITS, drawn(5, 64, 3).float()
    start = 0.1 * torch.ones(5, network.latents)
    together = fit(network, spread, x, targets, start, 5)[0]
    alone = torch.cat([fit(network, spread, x, target[None], start[:1], 5)[0] for target in targets])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3)
