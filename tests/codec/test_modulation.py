from __future__ import annotations

import numpy as np
import pytest
import torch

from compresskit.codec.base import Base
from compresskit.codec.coordinates import grid
from compresskit.codec.exact import ACTIVATION_BITS, OUTPUT, SHIFTS, evaluate, evaluate_outputs
from compresskit.codec.fit import RIDGE, fit, solve
from compresskit.codec.modulation import Modulated, errors, jacobian, render
from compresskit.codec.patchcode import modulated
from compresskit.codec.siren import MIDDLE, Siren, init

LATENTS = 5


@pytest.fixture(scope="module", params=[OUTPUT, SHIFTS])
def network(request: pytest.FixtureRequest) -> Modulated:
    """In double precision: autograd and the written-out derivatives agree to many digits."""
    generator = torch.Generator().manual_seed(0)
    siren = init(2, 7, 3, 3, 20.0, generator)
    doubled = Siren(tuple(w.double() for w in siren.weights), tuple(b.double() for b in siren.biases), siren.omega)
    modulations = {OUTPUT: 3 * (7 + 1), SHIFTS: 3 * 7}[request.param]
    return Modulated(doubled, torch.randn(modulations, LATENTS, generator=generator, dtype=torch.float64) / 20, request.param)


def drawn(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def slow(network: Modulated, x: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """What `render` must give, patch by patch and layer by layer."""
    siren, found = network.siren, []
    for latent in latents:
        added, values = network.mapping @ latent, x
        for layer in range(network.hidden):
            shift = added[7 * layer : 7 * layer + 7] if network.part == SHIFTS else 0
            values = torch.sin(siren.omega * (values @ siren.weights[layer].T + siren.biases[layer] + shift))
        weight, bias = siren.weights[-1], siren.biases[-1]
        if network.part == OUTPUT:
            weight, bias = weight + added.reshape(3, 8)[:, :7], bias + added.reshape(3, 8)[:, 7]
        found.append(values @ weight.T + bias + MIDDLE)
    return torch.stack(found)


def test_a_latent_is_mapped_to_its_part_of_the_network(network: Modulated) -> None:
    x, latents = drawn(11, 2), drawn(4, LATENTS)
    torch.testing.assert_close(render(network, x, latents), slow(network, x, latents))


def test_gradients_are_those_of_autograd(network: Modulated) -> None:
    x, targets, latents = drawn(11, 2), drawn(4, 11, 3), drawn(4, LATENTS).requires_grad_()
    expected = (render(network, x, latents) - targets).square().mean(dim=(1, 2))
    expected.sum().backward()
    loss, half = errors(network, x, targets, latents.detach())
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(2 * half, latents.grad)


@pytest.mark.parametrize("zero", [True, False])
def test_derivatives_are_those_of_autograd(network: Modulated, zero: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "zeros", lambda *shape, **options: torch.full(shape, 0.0, dtype=torch.float64))
    monkeypatch.setattr(torch, "eye", lambda size: torch.diag(torch.full((size,), 1.0, dtype=torch.float64)))
    x, latent = drawn(9, 2), torch.full((LATENTS,), 0.0, dtype=torch.float64) if zero else drawn(LATENTS)
    expected = torch.autograd.functional.jacobian(lambda z: render(network, x, z[None])[0].flatten(), latent)
    torch.testing.assert_close(jacobian(network, x, None if zero else latent), expected)


def test_samples_are_linear_in_latents_of_the_output_layer(colour_base: Base) -> None:
    network, _ = modulated(colour_base)
    x, latents = drawn(9, 2).float(), drawn(4, network.latents).float()
    added = (jacobian(network, x) @ latents.T).T.reshape(4, 9, 3)
    torch.testing.assert_close(render(network, x, latents), render(network, x, torch.zeros(1, network.latents)) + added, atol=1e-5, rtol=1e-4)


def test_the_floats_of_a_base_network_make_what_its_integers_make(either: Base) -> None:
    base, (network, spread) = either, modulated(either)
    coordinates, levels = grid((8, 8)), 65536
    latents = base.centers + np.rint(np.random.default_rng(0).normal(0, base.spread, (6, base.latents))).astype(np.int64)
    if base.part == OUTPUT:
        exact = evaluate_outputs(base.network, coordinates, base.outputs(latents), levels)
    else:
        exact = evaluate(base.network, coordinates, base.shifts(latents), levels)
    floats = render(
        network, torch.from_numpy(coordinates).float() / 2**ACTIVATION_BITS, torch.from_numpy(np.ldexp(latents.astype(float), -16)).float()
    )
    np.testing.assert_allclose(floats.clamp(0, 1).numpy(), exact / (levels - 1), atol=0.01 if base.part == SHIFTS else 0.002)
    assert bool((spread > 0).all())


def test_solved_latents_have_the_least_error(colour_base: Base) -> None:
    network, _ = modulated(colour_base)
    x, targets = torch.from_numpy(grid((8, 8))).float() / 2**ACTIVATION_BITS, drawn(12, 64, 3).float()
    latents = solve(network, x, targets)
    _, half = errors(network, x, targets, latents)
    torch.testing.assert_close(half, -RIDGE * latents, atol=2e-5, rtol=0)
    best = errors(network, x, targets, latents)[0] + RIDGE * latents.square().sum(dim=1)
    for size in (0.01, 0.3):
        other = latents + size * torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
        assert bool((errors(network, x, targets, other)[0] + RIDGE * other.square().sum(dim=1) > best).all())


def test_patches_of_few_samples_have_latents_too(colour_base: Base) -> None:
    """There are more latents than samples: of all that give these, about the smallest are taken."""
    network, _ = modulated(colour_base)
    x, wanted = torch.tensor([[0.25, -0.5]]), 0.1 * torch.randn(3, network.latents, generator=torch.Generator().manual_seed(0))
    targets = render(network, x, wanted)
    found = solve(network, x, targets)
    assert bool((errors(network, x, targets, found)[0] < 1e-3).all())
    assert bool((found.norm(dim=1) <= wanted.norm(dim=1) + 1e-4).all())


def test_a_fit_never_ends_worse_than_it_began(former_base: Base) -> None:
    network, spread = modulated(former_base)
    x = torch.from_numpy(grid((8, 8))).float() / 2**ACTIVATION_BITS
    targets = drawn(12, 64, 3).float()
    begun, _ = errors(network, x, targets, torch.zeros(12, former_base.latents))
    before = begun
    for steps in (0, 1, 3, 10):
        latents, loss = fit(network, spread, x, targets, torch.zeros(12, network.latents), steps)
        torch.testing.assert_close(loss, errors(network, x, targets, latents)[0])
        assert bool((loss <= begun + 1e-6).all())
        before = loss if steps == 0 else before
    torch.testing.assert_close(before, begun)
    assert float(loss.mean()) < float(begun.mean())


def test_patches_are_fitted_each_by_itself(former_base: Base) -> None:
    network, spread = modulated(former_base)
    x, targets = torch.from_numpy(grid((8, 8))).float() / 2**ACTIVATION_BITS, drawn(5, 64, 3).float()
    start = 0.1 * torch.ones(5, network.latents)
    together = fit(network, spread, x, targets, start, 5)[0]
    alone = torch.cat([fit(network, spread, x, target[None], start[:1], 5)[0] for target in targets])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3)
