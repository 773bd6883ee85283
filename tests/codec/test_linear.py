from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from compresskit.codec.coordinates import grid
from compresskit.codec.exact import OUTPUT
from compresskit.codec.linear import RIDGE, between, linear_start
from compresskit.codec.modulation import Modulated, features, jacobian, render
from compresskit.codec.siren import MIDDLE, Siren, init
from compresskit.errors import GuardError

X = torch.from_numpy(grid((8, 8))).float() / 2**14
CHANNELS, LATENTS, WIDTH, DEPTH = 2, 6, 16, 3
CHANGE = 0.2  # of a sample, for a latent of 1


def siren(seed: int = 0) -> Siren:
    return init(2, WIDTH, DEPTH, CHANNELS, 30.0, torch.Generator().manual_seed(seed))


def wanted() -> tuple[Tensor, Tensor]:
    """A mean (N, channels), and orthogonal components (N, channels, L): smooth waves."""
    rows, columns = X[:, 0], X[:, 1]
    waves = torch.stack([torch.cos(rows * a + columns * b) for a, b in ((1, 0), (0, 1), (2, 1), (1, 2), (3, 0), (0, 3))], dim=-1)
    components = torch.linalg.qr(torch.cat([waves, -waves.flip(0)]))[0].reshape(CHANNELS, len(X), LATENTS).transpose(0, 1)
    return 0.1 * torch.stack([rows, columns], dim=1), components * CHANGE * (len(X) * CHANNELS / LATENTS) ** 0.5


def missed(network: Modulated) -> float:
    """What is minimized, computed from derivatives that encoding uses."""
    mean, components = wanted()
    derivatives = jacobian(network, X).reshape(len(X), CHANNELS, LATENTS)
    output = render(network, X, torch.zeros(1, LATENTS))[0] - MIDDLE
    error = (components - derivatives).square().sum(dim=-1).mean() + (output - mean).square().mean()
    squares = sum(tensor.square().sum() for tensor in (network.mapping, network.siren.weights[-1], network.siren.biases[-1]))
    return float(error + RIDGE * squares / CHANNELS)


def test_a_network_begins_as_its_components() -> None:
    _, components = wanted()
    network = linear_start(siren(), X, *wanted(), 300)
    assert network.part == OUTPUT
    assert missed(network) < 0.02 * float(components.square().sum(dim=-1).mean())


def test_latents_of_any_size_add_their_components() -> None:
    mean, components = wanted()
    network = linear_start(siren(), X, mean, components, 300)
    latents = 3 * torch.randn(16, LATENTS, generator=torch.Generator().manual_seed(1))
    linear = mean + (components @ latents.T).permute(2, 0, 1)
    error = (render(network, X, latents) - MIDDLE - linear).square().mean()
    assert float(error) < 0.02 * float(linear.var())


def test_output_layers_are_the_regression_on_what_hidden_layers_know() -> None:
    network, (mean, components) = linear_start(siren(), X, *wanted(), 20), wanted()
    known = features(network.siren, X).double().numpy()
    ridge = np.sqrt(RIDGE * len(X)) * np.eye(WIDTH + 1)
    for channel in range(CHANNELS):
        targets = torch.cat([mean[:, channel, None], components[:, channel]], dim=1).double().numpy()
        expected = np.linalg.lstsq(np.concatenate([known, ridge]), np.concatenate([targets, np.zeros((WIDTH + 1, LATENTS + 1))]))[0]
        found = network.mapping.unflatten(0, (CHANNELS, WIDTH + 1))[channel].numpy()
        own = [*network.siren.weights[-1][channel].tolist(), float(network.siren.biases[-1][channel])]
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected[:, 1:], atol=2e-2 * scale)
        np.testing.assert_allclose(own, expected[:, 0], atol=2e-2 * scale)


def test_no_other_output_layers_are_better() -> None:
    """Nearby ones cost more: the regression's are the least."""
    network = linear_start(siren(), X, *wanted(), 20)
    least, generator = missed(network), torch.Generator().manual_seed(2)
    for size in (1e-1, 1e-2):
        step = size * network.mapping.abs().mean() * torch.randn(network.mapping.shape, generator=generator)
        assert missed(replace(network, mapping=network.mapping + step)) > least
        biases = (*network.siren.biases[:-1], network.siren.biases[-1] + size * torch.randn(CHANNELS, generator=generator))
        assert missed(replace(network, siren=replace(network.siren, biases=biases))) > least


def test_the_search_only_gains() -> None:
    found = [missed(linear_start(siren(), X, *wanted(), steps)) for steps in (1, 10, 50)]
    assert found == sorted(found, reverse=True)


def test_the_given_network_stays_as_it_is() -> None:
    given = siren()
    linear_start(given, X, *wanted(), 5)
    assert all(torch.equal(tensor, other) for tensor, other in zip((*given.weights, *given.biases), (*siren().weights, *siren().biases), strict=True))


def test_what_is_not_finite_is_refused() -> None:
    mean, components = wanted()
    with pytest.raises(GuardError, match="training diverged before its first step"):
        linear_start(siren(), X, mean, components * float("nan"), 5)


@pytest.mark.parametrize("edges", [(12,), (12, 9), (6, 8, 7)], ids=str)
def test_smooth_fields_between_cells_are_what_they_are_there(edges: tuple[int, ...]) -> None:
    def fields(x: Tensor) -> Tensor:
        return torch.stack([torch.cos(x.sum(dim=1)), x[:, 0]], dim=1)

    x = torch.from_numpy(grid(edges)).float() / 2**14
    places, found = between(fields(x), edges, 2, np.random.default_rng(0))
    assert float((places - x.repeat(2, 1)).abs().max()) <= 1 / min(edges)
    inside = (places.abs() < 1 - 3 / torch.tensor(edges)).all(dim=1)  # at its ends a spline does not know how a line goes on
    assert torch.allclose(found[inside], fields(places[inside]), atol=0.05)
